"""``dlas check`` on the IISWC table: its statements, under other names and in other orders."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from dlas.cli.app import main

ROOT = Path(__file__).parents[3]
CLAIMS = ROOT / "studies" / "claims" / "iiswc-2018.yaml"
TABLE = ROOT / "tests" / "data" / "iiswc-2018.csv"
NAMES = {
    "model": "Netz", "optimization": "Verdichtung", "device": "Gerät", "threads": "Kerne",
    "seconds": "t [s]", "macs": "MACs je Bild",
}  # fmt: skip


def verdicts(capsys, *arguments: str) -> dict[str, dict]:
    assert main(["check", str(CLAIMS), *arguments, "--format", "json"]) == 0
    return {c["id"]: c for c in json.loads(capsys.readouterr().out)["claims"]}


def test_all_statements_are_reproduced(capsys):
    found = verdicts(capsys, "--table", str(TABLE))
    assert {k: v["verdict"] for k, v in found.items()} == dict.fromkeys(
        ("S1", "S2", "S3", "S4", "signs"), "reproduced"
    )
    (winner,) = found["S3"]["tests"]
    assert (winner["yes"], winner["no"], winner["undecided"]) == (21, 0, 0)
    (turned,) = found["S2"]["tests"]
    yes = [c["context"] for c in turned["contexts"] if c["answer"] == "yes"]
    assert yes == [{"model": "MobileNet", "device": d} for d in ("Odroid", "i7")]


def test_other_names_and_shuffled_rows_say_the_same(capsys, tmp_path):
    other = tmp_path / "anders.csv"
    frame = pd.read_csv(TABLE).rename(columns=NAMES).sample(frac=1, random_state=7)
    frame.to_csv(other, sep=";", decimal=",", index=False)
    columns = [x for k, v in NAMES.items() for x in ("--column", f"{k}={v}")]
    one = verdicts(capsys, "--table", str(TABLE))
    two = verdicts(capsys, "--table", str(other), *columns)
    for name in one:
        assert one[name]["verdict"] == two[name]["verdict"]
        assert one[name]["p"] == pytest.approx(two[name]["p"])


def test_a_speed_up_by_hand(capsys):
    """The first test of the sign pattern, one context of it, from the numbers of the table."""
    found = verdicts(capsys, "--table", str(TABLE))
    frame = pd.read_csv(TABLE).set_index(["model", "optimization", "device", "threads"])["seconds"]
    contexts = found["signs"]["tests"][1]["contexts"]
    assert len(contexts) == 21
    for c in contexts:
        at = c["context"]
        place = (at["device"], int(at["threads"]))
        plain = frame[(at["model"], "plain", *place)]
        assert c["value"] == pytest.approx(plain / frame[(at["model"], "channel-pruned", *place)])


def test_without_an_error_nothing_is_told(capsys, tmp_path):
    text = CLAIMS.read_text().replace("  within: 0.01\n", "")
    path = tmp_path / "bare.yaml"
    path.write_text(text)
    assert main(["check", str(path), "--table", str(TABLE)]) == 0
    said = capsys.readouterr().out
    assert "0 reproduced, 0 not reproduced, 5 cannot tell" in said
    assert "nothing is known of the error of seconds" in said
