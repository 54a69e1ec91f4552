"""`dlas run --engine`, `scheduler`, `workers`: what is wrong is said before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dlas.cli import app
from dlas.run.engines import wire

STUDY: dict[str, Any] = {
    "dlas": 1, "name": "small",
    "layers": {"dataset": ["digits"], "model": ["resnet-8"], "software": ["pytorch"]},
}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    return str(path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--engine", "dask://192.0.2.1:8786"], "give --tls-ca, --tls-cert and --tls-key"),
        (["--engine", "ray://127.0.0.1"], "must be dask://HOST:PORT"),
        (["--engine", "dask://127.0.0.1", "--max-disk", "1G"], "--max-disk: with --engine other"),
        (["--engine", "dask://127.0.0.1", "--tls-ca", "x"], "TLS needs --tls-cert and --tls-key"),
        (["--tls-ca", "a", "--tls-cert", "b", "--tls-key", "c"], "--tls-ca a: cannot be read"),
    ],
)
def test_a_run_is_not_begun(
    study: str, tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(wire, "find_spec", lambda name: object())
    assert app.main(["run", study, "--out", str(tmp_path / "out"), *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["run", "explore"])
def test_goals_are_sought_on_one_machine(
    study: str, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(wire, "find_spec", lambda name: object())
    more = ["--engine", "dask://127.0.0.1:9", *(["--settle"] if command == "run" else [])]
    assert app.main([command, study, "--out", str(tmp_path / "out"), *more]) == 2
    assert "needs something to seek" in capsys.readouterr().err
    elsewhere = {"layers": {**STUDY["layers"], "hardware": [{"cpu": {"on": "big"}}]},
                 "goals": {"minimize": ["latency_ms"]}}  # fmt: skip
    if command == "explore":
        Path(study).write_text(yaml.safe_dump({**STUDY, **elsewhere}))
        assert app.main([command, study, "--out", str(tmp_path / "out"), *more]) == 2
        assert "some stacks are for others (on: big)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["scheduler", "--host", "0.0.0.0"], "whoever reaches it could run any code"),
        (["workers", "--scheduler", "dask://lab.example:8786"], "whoever reaches it could run"),
        (["workers", "--scheduler", "dask://127.0.0.1", "--labels", "a;rm"], "label is one word"),
        (["workers", "--scheduler", "dask://127.0.0.1", "--name", "../x"], "label is one word"),
        (["workers", "--scheduler", "dask://127.0.0.1", "--name", ","], "--name ',': a label is"),
    ],
)
def test_no_door_is_opened_to_others(
    command: list[str], said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(wire, "find_spec", lambda name: object())
    assert app.main(command) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", [["scheduler"], ["workers", "--scheduler", "dask://[::1]"]])
def test_without_the_extra_it_is_named(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "find_spec", lambda name: None)
    assert app.main(command) == 2
    assert "pip install 'dlas[cluster]'" in capsys.readouterr().err
