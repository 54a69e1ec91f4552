"""What became of a process, as an outcome in words."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from dlas import __version__
from dlas.core.errors import StorageError
from dlas.core.records import Status
from dlas.run.process.endings import answer_of, outcome_of
from dlas.run.process.guardian import End
from dlas.run.process.tasks import Job, Server

JOB = Job("dlas.run.measure.sentinel:run", {}, "measure", 60, 4000)
PLAIN = Server()


def test_an_abort_for_want_of_memory_is_out_of_memory(tmp_path: Path) -> None:
    end = End("signal", signal.SIGABRT, "terminate called: std::bad_alloc")
    outcome = outcome_of(end, JOB, tmp_path / "none", PLAIN)
    assert outcome.reason == "out of memory (limit 4000 MB)"


def test_a_full_disk_stops_everything(tmp_path: Path) -> None:
    result = tmp_path / "result"
    error = {"kind": "storage", "type": "OSError", "message": "[Errno 28] No space left"}
    result.write_text(json.dumps({"dlas": __version__, "error": error}))
    with pytest.raises(StorageError, match="No space left"):
        answer_of(JOB, result, "", PLAIN)


def test_half_a_result_is_none(tmp_path: Path) -> None:
    result = tmp_path / "result"
    whole = json.dumps({"dlas": __version__, "value": {"seconds": 1.0}})
    result.write_text(whole)
    assert answer_of(JOB, result, "", PLAIN).value == {"seconds": 1.0}
    result.write_text(whole[: len(whole) // 2])
    outcome = answer_of(JOB, result, "", PLAIN)
    assert (outcome.status, outcome.reason) == (
        Status.FAILED,
        "ended without a result (exit status 0)",
    )


def test_another_interpreter_needs_the_same_dlas(tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.write_text(json.dumps({"dlas": "0.0.1", "value": {}}))
    outcome = answer_of(JOB, result, "", Server(python="/opt/python"))
    assert outcome.reason.startswith("/opt/python has dlas 0.0.1, this is ")
    assert not outcome.ok
