"""Cleaning where artefacts are in an object store: what is here goes, what is there stays."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from dlas.core.errors import UserError
from dlas.run.clean import clean
from dlas.store.shared_store import SharedStore
from table_rows import cell_row, fill, stack


def test_what_a_folder_keeps_of_a_shared_store_goes_and_is_fetched_again(tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="pip install 'dlas[cluster]'")
    folder = fill(tmp_path / "out", cell_row(stack()))
    shared = SharedStore(f"memory://{uuid.uuid4().hex}/store", folder / "store")
    made = shared.scratch()
    (made / "a").write_text("one")
    content = shared.commit("k", "build", made, {}, 0).content
    assert content is not None
    before = shared.remote.names("")
    done = clean([folder])
    assert (done.objects, done.steps) == (1, 0)
    assert [*(folder / "store" / "objects").iterdir()] == []
    assert shared.remote.names("") == before
    assert (SharedStore(shared.remote.url, shared.root).path(content) / "a").read_text() == "one"


def test_a_store_in_s3_is_not_cleaned(tmp_path: Path) -> None:
    folder = fill(tmp_path / "out", cell_row(stack()))
    with pytest.raises(UserError, match=r"--store s3://lab/x: several machines share it"):
        clean([folder], store="s3://lab/x")
