from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dlas import __version__
from dlas.core.errors import StepError, StorageError, UserError
from dlas.run.process import worker


def job(tmp_path: Path, **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "task": "dlas.run.measure.sentinel:run",
        "args": {},
        "cpus": None,
        "memory_limit_mb": 2000,
        "paths": [],
        "preload": [],
        "result": str(tmp_path / "result"),
    }
    file = tmp_path / "job"
    file.write_text(json.dumps({**fields, **changes}))
    return file


def alone(file: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", "-m", "dlas.run.process.worker", "--job", str(file)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_job_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = alone(job(tmp_path))
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "result").read_text())
    assert answer["dlas"] == __version__
    assert answer["value"]["seconds"] > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job", "result"]


def test_a_job_outside_of_dlas_is_refused(tmp_path: Path) -> None:
    alone(job(tmp_path, task="os:getcwd"))
    error = json.loads((tmp_path / "result").read_text())["error"]
    assert "'os:getcwd' is not part of dlas" in error["message"]


def test_a_result_that_cannot_be_written_is_no_success(tmp_path: Path) -> None:
    done = alone(job(tmp_path, result=str(tmp_path / "gone" / "result")))
    assert done.returncode == 74
    assert "FileNotFoundError" in done.stderr


def test_limits_are_set_before_anything_is_loaded(tmp_path: Path) -> None:
    last = max(os.sched_getaffinity(0))
    text = json.dumps({"cpus": [last], "memory_limit_mb": 1000})
    code = (
        "import json, os, resource, sys; from dlas.run.process import worker; "
        "worker.confine(json.loads(sys.argv[1])); "
        "print(os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_DATA)[0], "
        "resource.getrlimit(resource.RLIMIT_CORE)[0], 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, text], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{{{last}}} {1000 * 2**20} 0 False"
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] != 1000 * 2**20


def raising(error: BaseException) -> Any:
    def work() -> Any:
        raise error

    return json.loads(worker._attempt(work))["error"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StepError("a sentence"), "step"),
        (UserError("a sentence"), "step"),
        (StorageError("disk"), "storage"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage"),
        (OSError(errno.EROFS, "Read-only file system"), "storage"),
        (OSError(errno.ENOENT, "No such file"), "exception"),
        (MemoryError(), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory"),
        (RuntimeError("std::bad_alloc"), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "device-memory"),
        (ValueError("else"), "exception"),
        (SystemExit(0), "exception"),
        (KeyboardInterrupt(), "exception"),
    ],
)
def test_what_went_wrong_has_a_kind(error: BaseException, kind: str) -> None:
    said = raising(error)
    assert said["kind"] == kind
    assert said["type"] == type(error).__name__


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_not_json_is_no_value(value: object) -> None:
    answer = json.loads(worker._attempt(lambda: {"latency": value}))
    assert "value" not in answer
    assert answer["error"]["type"] in ("ValueError", "TypeError")


def test_imports_that_fail_say_which() -> None:
    with pytest.raises(StepError, match="module 'no_such' cannot be imported: ModuleNotFound"):
        worker.preload(["json", "no_such"])


def test_imports_are_timed_without_what_every_worker_has() -> None:
    assert worker.preload(["numpy"]) < worker.preload([]) + 0.05


def test_a_guardian_imports_little() -> None:
    heavy = "{'numpy', 'pydantic', 'torch', 'pandas', 'psutil'}"
    code = f"import sys, dlas.run.process.worker; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(SystemExit, match="unknown mode '--else'"):
        worker.main(["--else", "1"])
