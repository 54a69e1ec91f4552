"""Playing on finished tables: what is printed, what is found, and that killing changes nothing."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dlas.cli.app import main
from dlas.core.errors import UserError
from dlas.core.goals import Goals
from dlas.explore import ended, names
from dlas.explore.allowance import Allowance, parse_budget
from dlas.explore.replay import play

TABLES = Path(__file__).parents[3] / "shared" / "data" / "configurable-systems"
LAYERS = ["model", "software", "pruning", "threads"]


def frame() -> pd.DataFrame:
    rows = []
    for model, software, pruning, threads in itertools.product(
        ("a", "b", "c", "d"), ("x", "y", "z"), (0.0, 0.5, 0.7, 0.9), (1, 2, 4)
    ):
        size = 4.0 * 2 ** "abcd".index(model)
        ms = size * {"x": 1.0, "y": 0.7, "z": 1.3}[software] * (1 - 0.6 * pruning) / threads**0.7
        ms *= 1.5 if software == "y" and pruning > 0.6 else 1.0
        error = 0.3 / (1 + "abcd".index(model)) + 0.1 * pruning**3
        rows.append((model, software, pruning, threads, ms, error))
    return pd.DataFrame(rows, columns=[*LAYERS, "ms", "error"])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    frame().to_csv(path, index=False)
    return path


def replayed(capsys: pytest.CaptureFixture[str], *more: str | Path) -> dict:  # type: ignore[type-arg]
    code = main(["explore", "--replay", *map(str, more), "--format", "json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    found = json.loads(printed.out)
    assert isinstance(found, dict)
    return found


def test_two_metrics_give_shares(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = replayed(capsys, table, "--layers", ",".join(LAYERS), "--minimize", "ms,error",
                     "--budgets", "5%,20", "--repeats", "3", "--sampler", "dlas")  # fmt: skip
    assert found["stacks"] == 144
    assert set(found["samplers"]) == {"dlas", "random"}
    for played in found["samplers"].values():
        assert set(played) == {"budgets", "to_99_median", "seconds"}
        assert set(played["budgets"]) == {"8", "20"}
        for each in played["budgets"].values():
            assert set(each) == {"share_median", "share_worst", "regret_median", "error_median"}
            assert each["regret_median"] is None
            assert 0 <= each["share_worst"] <= each["share_median"] <= 1
    own, chance = (found["samplers"][n]["budgets"]["20"] for n in ("dlas", "random"))
    assert own["share_median"] > chance["share_median"]
    assert own["share_median"] > 0.85


def test_one_metric_gives_the_regret(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = replayed(capsys, table, "--layers", ",".join(LAYERS), "--minimize", "ms",
                     "--budgets", "24", "--repeats", "3", "--sampler", "dlas")  # fmt: skip
    (own,) = found["samplers"]["dlas"]["budgets"].values()
    assert own["share_median"] is None
    assert own["regret_median"] == pytest.approx(0.0, abs=0.01)
    assert own["error_median"] < 20
    assert found["samplers"]["dlas"]["to_99_median"] <= 24


def test_more_is_better_where_it_is_maximized(table: Path) -> None:
    turned = frame().assign(speed=lambda d: 1 / d["ms"])
    turned.to_csv(table, index=False)
    most = ended.of_table(table, LAYERS, Goals(maximize=("speed",)))
    least = ended.of_table(table, LAYERS, Goals(minimize=("ms",)))
    order = [3, 40, 100]
    assert most.regret(order) == pytest.approx(least.regret(order))
    assert most.regret([int(np.argmin(frame()["ms"]))]) == 0.0


def test_stacks_that_failed_are_told_as_failed(table: Path) -> None:
    data = frame()
    data.loc[data["software"] == "z", "ms"] = np.nan
    data.to_csv(table, index=False)
    finished = ended.of_table(table, LAYERS, Goals(minimize=("ms", "error")))
    order = play(finished, names.find("dlas"), 0, 30)
    failed = sum(not finished.works[at] for at in order)
    assert failed < 30 * 0.25  # a third of the stacks would fail by chance
    assert finished.share(range(144)) == pytest.approx(1.0)


def test_killed_twice_and_taken_up_it_names_the_same(table: Path, tmp_path: Path) -> None:
    """What was measured stands in a journal; who takes it up must name that again, then go on."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from dlas.core.goals import Goals\n"
        "from dlas.explore import ended, names\n"
        "from dlas.explore.replay import play\n"
        f"t = ended.of_table(Path({str(table)!r}), {LAYERS!r}, Goals(minimize=('ms', 'error')))\n"
        "journal, killed_at = Path(sys.argv[1]), int(sys.argv[2])\n"
        "known = journal.read_text().split() if journal.exists() else []\n"
        "def stop(order):\n"
        "    if len(order) <= len(known):\n"
        "        if str(order[-1]) != known[len(order) - 1]:\n"
        "            sys.exit('another stack than before')\n"
        "        return False\n"
        "    with journal.open('a') as file:\n"
        "        file.write(f'{order[-1]}\\n')\n"
        "    if len(order) == killed_at:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return False\n"
        "play(t, names.find('dlas'), 3, 20, stop=stop)\n"
    )

    def played(journal: Path, killed_at: int) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, str(journal), str(killed_at)], capture_output=True,
            text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
        )  # fmt: skip
        assert done.returncode == (-signal.SIGKILL if killed_at else 0), done.stderr
        return journal.read_text().split()

    undisturbed = played(tmp_path / "undisturbed", 0)
    assert len(set(undisturbed)) == 20
    taken_up = tmp_path / "taken up"
    assert [len(played(taken_up, at)) for at in (7, 13, 0)] == [7, 13, 20]
    assert taken_up.read_text().split() == undisturbed


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--layers", "modle", "--minimize", "ms"], "Did you mean 'model'"),
        (["--layers", "model,software", "--minimize", "ms"], "rows repeat a stack"),
        (["--layers", ",".join(LAYERS)], "say what is sought"),
        (["--layers", ",".join(LAYERS), "--minimize", "mss"], "Did you mean 'ms'"),
        (["--layers", "threads", "--minimize", "model"], "is not numeric"),
        (["--minimize", "ms"], "--layers: say which columns"),
        (["--layers", ",".join(LAYERS), "--minimize", "ms", "--maximize", "ms"], "at once"),
        (["--layers", ",".join(LAYERS), "--minimize", "ms", "--budgets", "x"], "is no budget"),
        (["--layers", ",".join(LAYERS), "--minimize", "ms", "--budgets", "9m"], "give shares"),
        (["--layers", "model", "--minimize", "ms", "--sampler", "tpee"], "Did you mean 'tpe'"),
        (["--out", "x", "--minimize", "ms"], "not to be given with --replay"),
    ],
)
def test_what_is_wrong_is_said(
    table: Path, capsys: pytest.CaptureFixture[str], more: list[str], part: str
) -> None:
    if more[1] == "model":  # one row a model, so that the sampler is reached
        frame().drop_duplicates("model").to_csv(table, index=False)
    assert main(["explore", "--replay", str(table), *more]) == 2
    assert part in capsys.readouterr().err


def test_a_study_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "study.yaml"]) == 2
    assert "--out DIR" in capsys.readouterr().err


def test_budgets() -> None:
    assert parse_budget("5%") == Allowance(share=0.05)
    assert parse_budget("60") == Allowance(stacks=60)
    assert parse_budget("30m") == Allowance(seconds=1800)
    assert Allowance(share=0.05).count(1125) == 57
    assert Allowance(stacks=60).count(20) == 20
    for wrong in ("0", "0%", "101%", "1.5", "-3", "5 apples", "", "m"):
        with pytest.raises(UserError, match="is no budget"):
            parse_budget(wrong)


def _system(file: str) -> ended.Finished:
    path = TABLES / file
    if not path.is_file():
        pytest.skip("the tables of configurable systems are not here")
    *layers, metric = path.open().readline().strip().split(",")
    return ended.of_table(path, layers, Goals(minimize=(metric,)))


@pytest.mark.parametrize(("file", "n", "dal"), [("x264_AllNumeric.csv", 48, 1.7),
                                               ("Apache_AllNumeric.csv", 45, 6.0)])  # fmt: skip
def test_the_model_errs_less_than_what_was_published(file: str, n: int, dal: float) -> None:
    finished = _system(file)
    errors = [finished.error(play(finished, names.find("random"), s, n)) for s in range(5)]
    assert np.median(errors) <= dal


def test_few_stacks_find_the_best_of_a_table() -> None:
    finished = _system("x264_AllNumeric.csv")
    counts = [
        len(play(finished, names.find("dlas"), s, 60, stop=finished.found)) for s in range(3)
    ]
    assert np.median(counts) <= 20
