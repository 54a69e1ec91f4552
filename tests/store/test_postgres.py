"""What of a database's refusals passes by waiting; the database itself is in tests/cluster."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from dlas.core.errors import UserError
from dlas.store.postgres import _passes
from dlas.store.results import ResultStore

UNKNOWN = 'could not translate host name "x" to address: '


@pytest.mark.parametrize(
    ("said", "at_first", "later"),
    [
        ("connection refused", True, True),
        ('database "x" does not exist', False, False),
        (f"{UNKNOWN}Name or service not known", False, True),
        (f"{UNKNOWN}Temporary failure in name resolution", True, True),
    ],
)
def test_a_mistyped_host_is_not_waited_for(said: str, at_first: bool, later: bool) -> None:
    error = OperationalError("", {}, Exception(said))
    assert (_passes(error, False), _passes(error, True)) == (at_first, later)
    assert not _passes(ProgrammingError("", {}, Exception(said)), True)


@pytest.mark.parametrize("url", ["postgresql://lab@db:abc/study", "postgresql://lab@db:1:2/study"])
def test_a_port_that_is_none_is_a_sentence(url: str) -> None:
    pytest.importorskip("psycopg", reason="pip install 'dlas[cluster]'")
    with pytest.raises(UserError, match=r"--results .*must be postgresql://USER@HOST:PORT/DATA"):
        ResultStore(url)
