"""`dlas optimize`: the way from what was given to the exported stack, and its ten lines."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import shipped
from dlas.cli import app
from dlas.core.errors import UserError
from dlas.core.stack import LAYERS
from dlas.deploy import front_door, ten_lines
from dlas.explore.settling import Final, Settled
from dlas.store.results import FILE_NAME, CellRow, ResultStore
from dlas.study.study import Study
from dlas.tables import cells_frame


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float | None]]:
    """Let what is measured be what the made-up folder holds; return what was asked for."""
    asked: list[tuple[str, float | None]] = []

    def measure(
        study: Study, out: Path, before: str, seconds: float | None, progress: object
    ) -> Settled:
        asked.append((before, seconds))
        text = (out / "optimize.yaml").read_text()
        made = out.with_name("made")
        shipped.fill(made)
        for each in made.iterdir():
            each.rename(out / each.name)
        (out / "study.yaml").write_text(text)
        cell = shipped.stack(1).cell
        return Settled(2, (Final(cell, "", {}, 0.9876, 0.9, 1.1, 1.0, rounds=3),), open=False)

    monkeypatch.setattr(front_door, "_measure", measure)
    monkeypatch.setattr(front_door, "_plain", lambda stacks: shipped.stack(2).cell)
    return asked


def test_ten_lines_say_what_the_table_says(
    tmp_path: Path,
    measured: list[tuple[str, float | None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    command = [
        "optimize",
        "resnet-8",
        "--data",
        "digits",
        "--budget",
        "2m",
        "--out",
        str(out),
        "-q",
    ]
    assert app.main(command) == 0
    ((before, seconds),) = measured
    assert before == shipped.stack(2).cell
    assert seconds is not None
    assert 0 < seconds < 120
    lines = capsys.readouterr().out.splitlines()
    assert 8 <= len(lines) <= 12
    words = [line.split()[0] for line in lines]
    assert words[:3] == ["before", "after", "gained"]
    assert words[-1] == "ship"
    table = cells_frame([out]).set_index("cell")
    for word, threads in (("before", 2), ("after", 1)):
        row = table.loc[shipped.stack(threads).cell]
        line = next(each for each in lines if each.startswith(word))
        for text in (f"{row['latency_ms']:.4g} ms", f"accuracy {row['accuracy']:.4g}"):
            assert text in line
    assert "1.5 times as fast" in lines[2]
    sure = next(each for each in lines if each.startswith("how sure"))
    assert "undisturbed 0.9876 ms (0.9 to 1.1) in the 3 of them since it was chosen" in sure
    card = json.loads((out / "best" / "stack.json").read_text())
    assert card["cell"] == shipped.stack(1).cell
    assert str(out / "best") in lines[-1]


@pytest.mark.parametrize(
    ("ratio", "meets", "part"),
    [
        (1.04, True, "1.04 times the best's latency"),
        (0.125, False, "8 times as fast as the best, but whether it meets every limit cannot"),
    ],
)
def test_a_runner_up_that_is_faster_is_told_with_the_reason(
    ratio: float, meets: bool, part: str
) -> None:
    rows = {"c": {"latency_ms": 0.25, **dict.fromkeys(LAYERS, "x")}}
    near = pd.DataFrame({"cell": ["c"], "ratio": [ratio], "meets": [meets]})
    found: Any = SimpleNamespace(best=SimpleNamespace(runners_up=near))
    assert part in ten_lines._runner_up(found, rows)


def test_a_network_that_never_runs_is_told(tmp_path: Path) -> None:
    shipped.fill(tmp_path / "out")
    with ResultStore(tmp_path / "out" / FILE_NAME) as store:
        every = store.rows(CellRow)
        for row in every:
            store.delete(CellRow, study=row.study, cell=row.cell)
        store.put(*(row for row in every if row.status == "failed"))
    with pytest.raises(UserError, match="no stack of this network runs: build: no memory"):
        front_door._something(tmp_path / "out")
