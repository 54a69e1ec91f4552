from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dlas.core.errors import StorageError
from dlas.core.records import Status
from dlas.run.process.isolate import Closed, Pool
from dlas.run.process.tasks import Job, Launch, Server
from faulty_cell import FaultyCell

pytest.importorskip("onnxruntime")

SENTINEL = Job("dlas.run.measure.sentinel:run", {}, "measure", 60, 4000)
PLAIN = Server()


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> FaultyCell:
    return FaultyCell.make(tmp_path_factory.mktemp("cell"))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with Pool(tmp_path_factory.mktemp("jobs")) as pool:
        yield pool


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("launch", ["fork", "exec"])
def test_a_job_yields_its_value(pool: Pool, cell: FaultyCell, launch: Launch) -> None:
    outcome = pool.run(cell.server, cell.job(), launch)
    assert outcome.status is Status.COMPLETE, outcome.log
    assert outcome.value["round"]["launch"] == launch
    assert outcome.value["round"]["import_s"] > 0
    assert outcome.seconds > 0
    assert outcome.value["ran"]["precision"] == "float32"


def test_a_child_runs_where_it_is_told(pool: Pool, cell: FaultyCell) -> None:
    last = max(os.sched_getaffinity(0))
    for launch in ("fork", "exec"):
        outcome = pool.run(cell.server, cell.job(cpus=(last,)), launch)
        assert outcome.value["round"]["cpus"] == [last]


def test_a_child_finds_modules_in_the_folders_given(
    pool: Pool, cell: FaultyCell, tmp_path: Path
) -> None:
    plugin = FaultyCell.make(tmp_path).folder / "plugin"
    apart = tmp_path / "study"
    apart.mkdir()
    (plugin / "dlas_sample.py").rename(apart / "dlas_sample.py")
    server = Server(("onnxruntime",), (("PYTHONPATH", str(plugin)),))
    without = pool.run(server, cell.job())
    assert "No module named 'dlas_sample'" in without.reason
    assert pool.run(server, cell.job(paths=(str(apart),))).ok


def test_job_files_are_gone_afterwards(cell: FaultyCell, tmp_path: Path) -> None:
    with Pool(tmp_path) as pool:
        pool.run(PLAIN, SENTINEL)
        (folder,) = tmp_path.iterdir()
        assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_threads_share_a_server(pool: Pool, cell: FaultyCell) -> None:
    with ThreadPoolExecutor(4) as threads:
        faults = ["none", "exception", "none", "nan"] * 2
        outcomes = list(threads.map(lambda f: pool.run(cell.server, cell.job(f)), faults))
    assert [o.ok for o in outcomes] == [fault == "none" for fault in faults]


# ---------------------------------------------------------------- faults

STRUCK = "dlas_sample.py, line N, in _strike"
FAULTS = [
    ("segfault", "killed by signal SIGSEGV", True),
    (
        "exception",
        "dlas_sample.py, line N, in _strike raised RuntimeError: planted exception",
        False,
    ),
    ("nan", "10 of 10 values of the output are NaN or infinite", False),
    ("endless-output", "endless output: more than 32 MB on stdout and stderr", False),
    ("half-result", "ended without a result (exit status 0)", False),
]


@pytest.mark.parametrize("launch", ["fork", "exec"])
@pytest.mark.parametrize(("fault", "reason", "transient"), FAULTS)
def test_a_fault_is_an_outcome(
    pool: Pool,
    cell: FaultyCell,
    fault: str,
    reason: str,
    transient: bool,
    launch: Launch,
) -> None:
    outcome = pool.run(cell.server, cell.job(fault), launch)
    said = re.sub(r"line \d+", "line N", outcome.reason)
    assert (outcome.status, said) == (Status.FAILED, reason), outcome.log
    assert outcome.transient is transient
    assert pool.run(cell.server, cell.job()).ok, "the next job is not concerned"


def test_the_end_of_the_log_is_kept(pool: Pool, cell: FaultyCell) -> None:
    raised = pool.run(cell.server, cell.job("exception"))
    assert "Traceback" in raised.log
    assert "_strike" in raised.log
    crashed = pool.run(cell.server, cell.job("segfault"))
    assert "Fatal Python error: Segmentation fault" in crashed.log
    endless = pool.run(cell.server, cell.job("endless-output"))
    assert 1000 < len(endless.log) <= 8000


@pytest.mark.parametrize("launch", ["fork", "exec"])
def test_a_memory_limit_holds(pool: Pool, cell: FaultyCell, launch: Launch) -> None:
    outcome = pool.run(cell.server, cell.job("alloc", memory_limit_mb=400), launch)
    assert outcome.reason == "out of memory (limit 400 MB)"
    assert outcome.transient


@pytest.mark.parametrize("launch", ["fork", "exec"])
def test_a_hang_ends_with_all_it_started(pool: Pool, cell: FaultyCell, launch: Launch) -> None:
    mark = uuid.uuid4().hex
    server = dataclasses.replace(
        cell.server, environment=(*cell.server.environment, ("DLAS_TEST_MARK", mark))
    )
    outcome = pool.run(server, cell.job("spawn", timeout_s=3), launch)
    assert outcome.reason == "timed out after 3 s"
    assert outcome.transient
    left = {p: line for p, line in marked(mark).items() if "--serve" not in line}
    assert wait_until(lambda: not sleeping(mark), 2), left


def test_an_error_of_a_step_is_its_message(pool: Pool, cell: FaultyCell) -> None:
    job = cell.job(task="dlas.run.measure.memory:run")
    reason = pool.run(cell.server, job).reason
    assert reason == "memory can be measured in an exec'd process only: this one was forked"


def test_only_dlas_is_run(pool: Pool) -> None:
    with pytest.raises(ValueError, match="not part of dlas"):
        pool.run(PLAIN, dataclasses.replace(SENTINEL, task="os:getcwd"))


def test_scratch_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="job files cannot be kept"):
        Pool(tmp_path / "file" / "jobs")


def test_what_killed_pools_left_is_removed(tmp_path: Path) -> None:
    stale, young = tmp_path / "jobs-stale", tmp_path / "jobs-young"
    stale.mkdir()
    young.mkdir()
    os.utime(stale, (0, 0))
    with Pool(tmp_path), Pool(tmp_path):
        assert not stale.exists()
        assert young.exists()
        assert len(list(tmp_path.iterdir())) == 3


# ---------------------------------------------------------------- servers


def test_a_server_that_cannot_import_says_so(pool: Pool) -> None:
    server = Server(preload=("no_such_runtime",))
    for launch in ("fork", "exec"):
        outcome = pool.run(server, SENTINEL, launch)
        assert outcome.reason == (
            "module 'no_such_runtime' cannot be imported: "
            "ModuleNotFoundError: No module named 'no_such_runtime'"
        )
        assert not outcome.transient


def test_another_interpreter_needs_dlas(pool: Pool, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    server = Server(python=str(bare / "bin/python"))
    for launch in ("fork", "exec"):
        outcome = pool.run(server, SENTINEL, launch)
        assert outcome.reason.startswith(f"{bare}/bin/python has no dlas: install it there")
        assert not outcome.transient


def test_another_interpreter_with_dlas_is_used(pool: Pool) -> None:
    server = Server(python=sys.executable)
    assert pool.run(server, SENTINEL).ok
    assert pool.run(server, SENTINEL, "exec").ok


def test_no_such_interpreter(pool: Pool) -> None:
    outcome = pool.run(Server(python="/no/such/python"), SENTINEL)
    assert "'/no/such/python' is no program" in outcome.reason


def test_restart_starts_servers_afresh(cell: FaultyCell, tmp_path: Path) -> None:
    with Pool(tmp_path) as pool:
        pool.run(PLAIN, SENTINEL)
        before = pool._servers[PLAIN].process.pid
        assert before is not None
        pool.restart()
        assert not Path(f"/proc/{before}").exists()
        assert pool.run(PLAIN, SENTINEL).ok
        assert pool._servers[PLAIN].process.pid != before


def test_servers_are_warmed_side_by_side_and_a_broken_one_is_left_to_its_jobs(
    cell: FaultyCell, tmp_path: Path
) -> None:
    broken = Server(preload=("no_such_runtime",))
    other = Server(PLAIN.preload, environment=(("OTHER", "1"),))
    with Pool(tmp_path) as pool:
        pool.warm([PLAIN, broken, other, PLAIN], 2)
        assert set(pool._servers) == {PLAIN, other}
        before = pool._servers[PLAIN].process.pid
        assert pool.run(PLAIN, SENTINEL).ok
        assert pool._servers[PLAIN].process.pid == before
        assert "no_such_runtime" in pool.run(broken, SENTINEL).reason


def test_a_closed_pool_raises_in_the_threads_that_wait(cell: FaultyCell, tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            pool.run(cell.server, cell.job("hang"))
        except Closed as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert wait_until(lambda: bool(pool._servers), 60)
    time.sleep(0.2)
    pool.close()
    thread.join(10)
    assert len(raised) == 1
    with pytest.raises(Closed):
        pool.run(PLAIN, SENTINEL)


def test_parent_and_servers_sleep_while_a_child_runs(cell: FaultyCell, tmp_path: Path) -> None:
    with Pool(tmp_path) as pool:
        pool.run(cell.server, cell.job())
        below = [pool._guardian._process.pid, pool._servers[cell.server].process.pid]
        thread = threading.Thread(
            target=pool.run, args=(cell.server, cell.job("hang", timeout_s=4))
        )
        thread.start()
        time.sleep(1)
        before = [cpu_ns(pid) for pid in (os.getpid(), *below) if pid]
        time.sleep(2)
        after = [cpu_ns(pid) for pid in (os.getpid(), *below) if pid]
        thread.join()
    assert len(before) == 3
    assert sum(after) - sum(before) < 0.01 * 2e9


def cpu_ns(pid: int) -> int:
    """CPU time of a process, all threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


# ---------------------------------------------------------------- nothing outlives anything

PARENT = """
import sys, threading
from pathlib import Path
from faulty_cell import FaultyCell
from dlas.run.process.isolate import Pool

cell = FaultyCell(Path(sys.argv[1]))
pool = Pool(Path(sys.argv[2]))
for launch in ("fork", "exec"):
    threading.Thread(
        target=pool.run, args=(cell.server, cell.job("spawn", at="load"), launch), daemon=True
    ).start()
sys.stdin.read()
"""


def marked(mark: str) -> dict[int, str]:
    """Return the living processes whose environment holds a mark, with their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if mark.encode() in (folder / "environ").read_bytes():
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(folder.name)] = line
            except OSError:
                continue
    return found


def sleeping(mark: str) -> list[int]:
    """Return the processes that the planted fault started."""
    return [pid for pid, line in marked(mark).items() if line.startswith("sleep 987")]


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


@pytest.fixture
def parent(cell: FaultyCell, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process with a pool, a forked and an exec'd job, and what these have started."""
    mark = uuid.uuid4().hex
    path = os.pathsep.join(
        (str(Path(__file__).parents[2] / "fakes"), os.environ.get("PYTHONPATH", ""))
    )
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(cell.folder), str(tmp_path)],
        stdin=subprocess.PIPE,
        env={**os.environ, "DLAS_TEST_MARK": mark, "PYTHONPATH": path},
    )
    try:
        # Two jobs, each with two programs of which one is in a session of its own.
        assert wait_until(lambda: len(sleeping(mark)) == 4, 60), marked(mark)
        yield process, mark
    finally:
        process.kill()
        process.communicate()
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)


def only(mark: str, part: str) -> int:
    """Return the one process whose command line holds a part."""
    # A forked child has its server's command line; the server is the older one.
    return min(pid for pid, line in marked(mark).items() if part in line)


def test_nothing_outlives_a_killed_parent(parent: tuple[subprocess.Popen[bytes], str]) -> None:
    process, mark = parent
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert wait_until(lambda: not marked(mark), 2), marked(mark)


def test_nothing_outlives_a_parent_that_ends(parent: tuple[subprocess.Popen[bytes], str]) -> None:
    process, mark = parent
    process.communicate()
    assert wait_until(lambda: not marked(mark), 2), marked(mark)


def test_nothing_outlives_an_interrupted_parent(
    parent: tuple[subprocess.Popen[bytes], str],
) -> None:
    process, mark = parent
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert wait_until(lambda: not marked(mark), 2), marked(mark)


def test_no_child_outlives_a_killed_server(parent: tuple[subprocess.Popen[bytes], str]) -> None:
    _, mark = parent
    os.kill(only(mark, "--serve"), signal.SIGKILL)
    assert wait_until(lambda: len(sleeping(mark)) == 2, 2), marked(mark)
    assert wait_until(lambda: "--serve" not in str(marked(mark)), 2), marked(mark)


def test_servers_and_children_end_with_the_guardian(
    parent: tuple[subprocess.Popen[bytes], str],
) -> None:
    _process, mark = parent
    os.kill(only(mark, "--guard"), signal.SIGKILL)
    # What an exec'd job put into a session of its own is the one thing nobody knows of now.
    assert wait_until(lambda: len(sleeping(mark)) <= 1, 2), marked(mark)
    assert wait_until(lambda: "dlas.run.process.worker" not in str(marked(mark)), 2), marked(mark)


def test_a_killed_child_takes_what_it_started_along(cell: FaultyCell, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    server = dataclasses.replace(
        cell.server, environment=(*cell.server.environment, ("DLAS_TEST_MARK", mark))
    )
    with Pool(tmp_path) as pool, ThreadPoolExecutor(1) as thread:
        running = thread.submit(pool.run, server, cell.job("spawn"))
        assert wait_until(lambda: len(sleeping(mark)) == 2, 60)
        serving = only(mark, "--serve")
        (child,) = (p for p, line in marked(mark).items() if "--serve" in line and p != serving)
        os.kill(child, signal.SIGKILL)
        outcome = running.result()
        assert outcome.reason == "killed by signal SIGKILL"
        assert outcome.transient
        assert wait_until(lambda: set(marked(mark)) == {serving}, 2), marked(mark)


@pytest.mark.parametrize("who", ["--serve", "--guard"])
def test_a_pool_survives_the_death_of_its_processes(
    cell: FaultyCell, tmp_path: Path, who: str
) -> None:
    with Pool(tmp_path) as pool, ThreadPoolExecutor(1) as thread:
        running = thread.submit(pool.run, cell.server, cell.job("hang"))
        assert wait_until(lambda: cell.server in pool._servers, 60)
        time.sleep(0.5)
        server = pool._servers[cell.server].process.pid
        assert server is not None
        os.kill(server if who == "--serve" else pool._guardian._process.pid, signal.SIGKILL)
        outcome = running.result()
        assert outcome.reason == "the process that started this job died"
        assert outcome.transient
        assert pool.run(cell.server, cell.job()).ok
        assert pool.run(cell.server, cell.job(), "exec").ok


def test_an_idle_server_that_died_is_started_anew(cell: FaultyCell, tmp_path: Path) -> None:
    with Pool(tmp_path) as pool:
        pool.run(PLAIN, SENTINEL)
        server = pool._servers[PLAIN].process.pid
        assert server is not None
        os.kill(server, signal.SIGKILL)
        time.sleep(0.2)
        first = pool.run(PLAIN, SENTINEL)
        assert first.ok or first.transient
        assert pool.run(PLAIN, SENTINEL).ok
