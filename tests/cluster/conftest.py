"""Servers that tests start and end: PostgreSQL, and an S3 stand-in that can fail."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from place import Place, place
from team import LAYERS, MEASURE, SECRETS, free_port

EXTRAS = ("psycopg", "s3fs", "moto", "distributed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = [name for name in EXTRAS if find_spec(name) is None]
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.cluster)
        if absent:
            reason = f"{', '.join(absent)} not installed: `make test-cluster` does it"
            item.add_marker(pytest.mark.skip(reason=reason))


@dataclass
class Postgres:
    """A server of its own, in a folder of its own, as another user where we are root."""

    folder: Path
    programs: Path
    user: str
    port: int

    def call(self, program: str, *arguments: str) -> None:
        person = pwd.getpwnam(self.user)
        ours = os.geteuid() == person.pw_uid
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **(
                {} if ours else {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}
            ),
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def make(self) -> None:
        # a locale's order of letters is one of the traps: SQLite knows bytes only
        self.call(
            "initdb", "-D", "data", "-A", "trust", "-U", "lab", "-E", "UTF8", "--locale=C.UTF-8"
        )
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        self.call("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        self.call("pg_ctl", "-D", "data", "-w", "-m", how, "stop")

    def start_again(self) -> None:
        """Start it where a test left it stopped."""
        if not (self.folder / "data" / "postmaster.pid").exists():
            self.start()

    def made(self) -> str:
        """Return the address of a new, empty database."""
        import psycopg

        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql://lab@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    found = shutil.which("initdb")
    programs = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    me = pwd.getpwuid(os.geteuid()).pw_name
    names = {person.pw_name for person in pwd.getpwall()}
    user = me if os.geteuid() else "postgres" if "postgres" in names else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="dlas-pg-"))
    person = pwd.getpwnam(user)
    os.chown(folder, person.pw_uid, person.pw_gid)
    server = Postgres(folder, programs[-1], user, free_port())
    try:
        server.make()
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PGPASSWORD", SECRETS[1])  # which the server does not ask for
            yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def database(postgres: Postgres) -> str:
    """Return the address of an empty database."""
    return postgres.made()


@dataclass
class S3:
    """An S3 stand-in whose answers can be made errors."""

    endpoint: str
    failing: threading.Event = field(default_factory=threading.Event)
    refused: int = 0

    def made(self) -> str:
        """Return the address of a new, empty bucket."""
        import boto3

        name = f"b{uuid.uuid4().hex[:12]}"
        boto3.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}/lab/artefacts"

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": SECRETS[0], "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each of thousands
    inner = DomainDispatcherApplication(create_backend_app)
    made = S3(f"http://127.0.0.1:{free_port()}")

    def app(environment: Any, start: Any) -> Any:
        if made.failing.is_set():
            made.refused += 1
            start("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"internal error"]
        return inner(environment, start)

    server = make_server("127.0.0.1", int(made.endpoint.rpartition(":")[2]), app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in made.environment().items():
            environment.setenv(name, value)
        yield made
    server.shutdown()
    thread.join(timeout=10)


@pytest.fixture
def s3(s3_server: S3) -> Iterator[S3]:
    yield s3_server
    s3_server.failing.clear()


@pytest.fixture
def bucket(s3: S3) -> str:
    """Return the address of an empty bucket."""
    return s3.made()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return the folder of a local run of the study that several machines share elsewhere."""
    made = place(tmp_path_factory.mktemp("undisturbed"))
    done = made.dlas("run", made.study(layers=LAYERS, measure=MEASURE), "--out", "out")
    assert done.returncode == 0, done.stderr
    return made


ENDURED = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def endured(request: pytest.FixtureRequest) -> list[str]:
    """Return the lines of a table that is printed when all tests have ended."""
    return request.config.stash.setdefault(ENDURED, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in terminalreporter.config.stash.get(ENDURED, []):
        terminalreporter.write_line(line)
