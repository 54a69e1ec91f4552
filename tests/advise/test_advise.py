"""`dlas advise`: what was tried and gave, what is left, and what is never advised."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import made_study
from dlas.advise import Advice, advise, reference
from dlas.advise.said import DEFINITION, ELSEWHERE, HERE, MODEL, STATUSES, UNKNOWN, as_markdown
from dlas.cli import app
from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.stack import LAYERS, Choice, Stack
from dlas.run.measure import host as hosts
from dlas.store.results import FILE_NAME, HostRow, ResultStore
from dlas.study.study import Study
from dlas.tables import cells_frame

Kept = Callable[[str, str, str, int, str], bool]
REAL = {"fashion-mnist": "dataset", "resnet-8": "model", "mobilenet-v2": "model",
        "vit-tiny": "model", "none": "optimization", "int8": "optimization",
        "bfloat16": "optimization", "native": "algorithm", "direct": "algorithm",
        "gemm": "algorithm"}  # fmt: skip


def _whole(made: Stack) -> Stack:
    """Return a made-up stack with all parameters that its techniques have."""

    def real(layer: str, step: Choice) -> Choice:
        return registry.choice(registry.make(layer, step.name, dict(step.params)))

    layers = {
        x: tuple(real(x, s) for s in made.layer(x))
        for x in ("dataset", "model", "optimization", "algorithm", "software", "hardware")
    }
    return Stack(**layers, sublayers=made.sublayers)


def _everything(*choice: object) -> bool:
    return True


def study(folder: Path, keep: Kept = _everything, **changed: Any) -> Path:
    """Make a folder of this machine with the made-up cells that are kept."""
    every = [c for c in made_study.combinations() if keep(*c)]
    chosen = [c for c in every if c[0] == "resnet-8"] or every  # one network is quick
    return made_study.fill(folder, made_study.rows(chosen, **changed))


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up host is this machine, the made-up choices have all their parameters."""
    monkeypatch.setattr(hosts, "this_class", lambda: made_study.HOST)
    plain = made_study.stack
    monkeypatch.setattr(made_study, "stack", lambda *a, **k: _whole(plain(*a, **k)))


def _advised(found: Advice) -> set[str]:
    """Return every layer's text of every stack in the next experiments."""
    texts = set()
    for each in found.experiments:
        study = Study.from_dict(yaml.safe_load(each.study))
        for made in study.stacks[1:]:
            texts |= {made.text(x) for x in ("optimization", "algorithm", "software", "hardware")}
    return texts


def _all(found: Advice) -> Iterable[Any]:
    for each in found.layers:
        yield from (*each.tried, *each.interacts, *each.diminishing, *each.untried, *each.refused)
    for one in found.experiments:
        yield from one.why


# ---------------------------------------------------------------- planted


def test_a_runtime_that_is_fast_elsewhere_is_among_the_next_three(tmp_path: Path) -> None:
    here = study(tmp_path / "here", lambda m, p, s, t, a: s not in ("openvino", "onnxruntime"))
    there = study(tmp_path / "there", lambda m, p, s, t, a: p == "none")
    found = advise([here, there])
    assert len(found.experiments) <= 3
    assert "openvino" in _advised(found)
    software = next(each for each in found.layers if each.layer == "software")
    said = next(s for s in software.untried if s.choice == "openvino")
    assert said.status == ELSEWHERE
    assert said.gain == pytest.approx(0.8 / 0.45, rel=0.1) or said.gain == pytest.approx(
        1 / 0.45, rel=0.1
    )
    assert "same machine" in said.text


def test_an_untried_choice_is_among_the_next_three_without_any_evidence(tmp_path: Path) -> None:
    here = study(tmp_path / "here", lambda m, p, s, t, a: s != "onnxruntime" and "int8" not in p)
    found = advise([here])
    assert {"onnxruntime", "winograd", "best"} <= _advised(found)
    assert any("int8" in text for text in _advised(found))
    untried = {s.choice: s.status for each in found.layers for s in each.untried}
    assert untried["onnxruntime"] == UNKNOWN
    assert untried["int8"] == DEFINITION


def test_an_option_of_the_best_that_nobody_tried_is_told(tmp_path: Path) -> None:
    found = advise([study(tmp_path / "here", lambda m, p, s, t, a: s == "tvm" and t == 1)])
    (software,) = [each for each in found.layers if each.layer == "software"]
    (said,) = [s for s in software.untried if s.choice == "tvm(tuning=template)"]
    assert "tuning template in place of none" in said.text
    assert said.status == UNKNOWN


def test_a_better_combination_that_nobody_measured_is_expected_by_the_model(
    tmp_path: Path,
) -> None:
    best = ("resnet-8", "channel-pruning", "openvino", 2, "native")

    def keep(m: str, p: str, s: str, t: int, a: str) -> bool:
        return m == "resnet-8" and p in ("none", "channel-pruning") and (m, p, s, t, a) != best

    found = advise([study(tmp_path / "here", keep)])
    first = found.experiments[0]
    assert first.title == "combinations of what was tried"
    assert first.why[0].status == MODEL
    texts = {s.text("software") + " " + s.text("hardware")
             for s in Study.from_dict(yaml.safe_load(first.study)).stacks[1:]}  # fmt: skip
    assert "openvino cpu(threads=2)" in texts
    assert first.why[0].gain is not None
    assert first.why[0].low is not None
    # Its true gain over the best that meets the goals, which is not pruned.
    assert first.why[0].low < 1 / 0.55 < (first.why[0].high or 0)


def test_what_a_rule_refuses_is_never_advised(tmp_path: Path) -> None:
    here = study(tmp_path / "here", lambda m, p, s, t, a: s == "pytorch" and p == "none")
    found = advise([here])
    for each in found.experiments:
        study_ = Study.from_dict(yaml.safe_load(each.study))
        refused = [s for s in study_.stacks if registry.refusal(registry.resolve(s))]
        assert not refused
    hardware = next(each for each in found.layers if each.layer == "hardware")
    assert not any("cuda" in s.choice for s in hardware.untried)


def test_a_technique_that_every_stack_refuses_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = registry.refusal

    def no_winograd(techniques: Any) -> Any:
        from dlas.core.protocols import impossible

        name = type(techniques.algorithm).name
        return impossible("a planted rule") if name == "winograd" else refuse(techniques)

    monkeypatch.setattr(registry, "refusal", no_winograd)
    found = advise([study(tmp_path / "here", lambda m, p, s, t, a: p == "none")])
    algorithm = next(each for each in found.layers if each.layer == "algorithm")
    assert [s.text for s in algorithm.refused] == ["winograd: a planted rule"]
    assert "winograd" not in _advised(found)
    assert "winograd" not in {s.choice for s in algorithm.untried}


def test_a_level_past_its_diminishing_returns_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = made_study.true_ms

    def flat(model: str, pipeline: str, software: str, threads: int, algorithm: str) -> float:
        return slow(model, pipeline, software, 1, algorithm)

    monkeypatch.setattr(made_study, "true_ms", flat)
    found = advise([study(tmp_path / "here", lambda m, p, s, t, a: p == "none", noise=0.003)])
    hardware = next(each for each in found.layers if each.layer == "hardware")
    assert any("threads" in s.text for s in hardware.diminishing), hardware
    monkeypatch.setattr(made_study, "true_ms", slow)
    better = advise([study(tmp_path / "good", lambda m, p, s, t, a: s == "openvino")])
    hardware = next(each for each in better.layers if each.layer == "hardware")
    assert not hardware.diminishing


# ---------------------------------------------------------------- evidence


def test_every_number_is_that_of_the_table(tmp_path: Path) -> None:
    here = study(tmp_path / "here", lambda m, p, s, t, a: a == "native")
    found = advise([here])
    table = cells_frame([here]).set_index("cell")
    said = [found.best, *_all(found)]
    told = [(s, c, name, v) for s in said for c, n in s.numbers.items() for name, v in n.items()]
    assert len(told) > 20
    for one, cell, column, value in told:
        assert float(table.loc[cell, column]) == value
        if column == "quiet_ms":
            assert f"{value:.4g}" in one.text or one.status == MODEL
    assert {s.status for s in said} <= set(STATUSES)
    for one in said:
        assert set(one.cells) <= set(table.index)
        assert one.cells or one.status != HERE or "nothing to compare" in one.text


def test_an_effect_is_that_of_its_pairs(tmp_path: Path) -> None:
    found = advise([study(tmp_path / "here", lambda m, p, s, t, a: p == "none" and a == "native")])
    software = next(each for each in found.layers if each.layer == "software")
    tvm = next(s for s in software.tried if s.choice == "tvm")
    assert tvm.low is not None
    assert tvm.high is not None
    assert tvm.gain is not None
    # Beside the median of the runtimes.
    assert tvm.low < made_study.SOFTWARE["torch-compile"] / made_study.SOFTWARE["tvm"] < tvm.high
    hardware = next(each for each in found.layers if each.layer == "hardware")
    assert hardware.tried[0].gain == pytest.approx(1 / 0.6, rel=0.05)


def test_one_network_only(tmp_path: Path) -> None:
    found = advise([study(tmp_path / "here", lambda m, p, s, t, a: m == "vit-tiny")])
    model = next(each for each in found.layers if each.layer == "model")
    assert model.tried[0].text == "only vit-tiny: nothing to compare"
    assert not model.untried
    assert found.experiments


def test_two_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = study(tmp_path / "there", lambda m, p, s, t, a: p == "none")
    monkeypatch.setattr(made_study, "HOST", "host-2")
    monkeypatch.setattr(hosts, "this_class", lambda: "host-2")
    here = study(tmp_path / "here", lambda m, p, s, t, a: p == "none" and s != "openvino")
    found = advise([there, here])
    assert str(here) not in " ".join(found.notes)
    assert f"elsewhere: {there}, another machine (Made CPU)" in found.notes[0]
    software = next(each for each in found.layers if each.layer == "software")
    assert next(s for s in software.untried if s.choice == "openvino").status == ELSEWHERE
    monkeypatch.setattr(hosts, "this_class", lambda: "host-3")
    assert "no folder holds measurements of this machine" in advise([here]).notes[0]


ELSEWHERE_FOLDER = Path(__file__).parents[1] / "data" / "elsewhere"
"""A small study that another machine ran: see the README beside it."""
SAYS = re.compile(
    r"\b(quiet_ms|latency_ms|memory_mb|build_s|accuracy|accuracy_drop) "
    r"(-?\d[\d.]*(?:e[+-]?\d+)?)(?: against (-?\d[\d.]*(?:e[+-]?\d+)?))?"
)
"""A column with the number of one cell, or of two."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the folder of the other machine."""
    folder = tmp_path_factory.mktemp("recorded") / "elsewhere"
    folder.mkdir()
    shutil.copy(ELSEWHERE_FOLDER / "study.yaml", folder)
    packed = (ELSEWHERE_FOLDER / "results.sqlite.gz").read_bytes()
    (folder / "results.sqlite").write_bytes(gzip.decompress(packed))
    return folder


def printed_table(capsys: pytest.CaptureFixture[str], *folders: Path) -> pd.DataFrame:
    """Return what `dlas table` prints of folders."""
    capsys.readouterr()
    frames = []
    for folder in folders:
        assert app.main(["table", str(folder), "--format", "csv"]) == 0
        frames.append(pd.read_csv(io.StringIO(capsys.readouterr().out)))
    return pd.concat(frames).set_index("cell")


def _hold_against(found: Advice, table: pd.DataFrame) -> int:
    """Hold every number of a column that is told against the table; return how many there are."""
    count = 0
    for said in (found.best, *_all(found)):
        for column, *numbers in SAYS.findall(said.text):
            known = {f"{value:.4g}" for value in table.loc[list(said.cells), column].dropna()}
            told = {number for number in numbers if number}
            assert told <= known, (said.text, column, told - known)
            count += len(told)
    return count


def _ratio(table: pd.DataFrame, layer: str, level: str, baseline: str) -> float:
    """Return how many times as fast a level is, by hand: of pairs that differ in it alone."""
    layers = [x for x in LAYERS if x != layer]
    one, other = (
        table[table[layer] == x].set_index(layers)["quiet_ms"] for x in (level, baseline)
    )
    both = pd.concat([one, other], axis=1, keys=["one", "other"]).dropna()
    return float(np.exp(np.log(both["other"] / both["one"]).mean()))


@pytest.mark.parametrize("where", ["one network", "all networks", "recorded"])
def test_every_number_is_found_in_the_printed_table(
    tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str], where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if where == "recorded":
        folder = recorded
        with ResultStore(folder / FILE_NAME, read_only=True) as store:
            (host,) = store.rows(HostRow)
        monkeypatch.setattr(hosts, "this_class", lambda: host.host)
    elif where == "one network":
        folder = study(tmp_path / "here", lambda m, p, s, t, a: m == "vit-tiny" and a == "native")
    else:
        chosen = [c for c in made_study.combinations() if c[1] == "none" and c[4] == "native"]
        folder = made_study.fill(tmp_path / "here", made_study.rows(chosen))
    found, table = advise([folder]), printed_table(capsys, folder)
    assert _hold_against(found, table) > 10
    compared = 0
    for each in found.layers:
        for said in each.tried:
            if said.gain is None:
                continue
            level, baseline = (str(table.loc[cell, each.layer]) for cell in said.cells)
            assert said.gain == pytest.approx(_ratio(table, each.layer, level, baseline), rel=1e-6)
            compared += 1
    assert compared > 2


def test_a_folder_recorded_on_another_machine_is_evidence_from_elsewhere(
    tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = study(tmp_path / "here", lambda m, p, s, t, a: p == "none" and s in ("pytorch", "tvm"))
    found = advise([here, recorded])
    (note,) = found.notes
    assert note.startswith(f"elsewhere: {recorded}, another machine (")
    assert note.endswith("the same dataset, the same model")
    told = [s for each in found.layers for s in each.untried if s.status == ELSEWHERE]
    assert {"openvino", "onnxruntime", "int8"} <= {s.choice for s in told}
    table = printed_table(capsys, here, recorded)
    assert _hold_against(found, table) > 10
    there = printed_table(capsys, recorded)
    for said in told:
        assert said.gain is not None
        for cell, numbers in said.numbers.items():
            for column, value in numbers.items():
                assert float(there.loc[cell, column]) == pytest.approx(value, rel=1e-9)
        assert said.numbers, said.text
    assert {"openvino", "onnxruntime"} <= _advised(found)


# ---------------------------------------------------------------- the commands


def test_the_command_writes_studies_that_run_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = study(tmp_path / "here", lambda m, p, s, t, a: p == "none")
    assert app.main(["advise", str(here), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 1 <= len(told["experiments"]) <= 3
    for each in told["experiments"]:
        assert len(Study.load(each["file"]).stacks) == each["stacks"] + 1
        assert f"dlas run {each['file']} --out" in each["command"]
    assert app.main(["advise", str(here)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("best: ")
    for each in told["experiments"]:
        assert each["command"] in text
    blocks = re.findall(r"```yaml\n(.*?)```", as_markdown(advise([here])), re.DOTALL)
    assert [b.strip() for b in blocks] == [e["study"].strip() for e in told["experiments"]]


def test_nothing_to_advise_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="holds no results"):
        advise([tmp_path])
    made = list(made_study.rows([("resnet-8", "int8", "tvm", 1, "native")]))
    empty = made_study.fill(tmp_path / "empty", made)
    assert app.main(["advise", str(empty)]) == 2
    assert "no stack is complete" in capsys.readouterr().err


def test_the_quick_reference_of_a_technique(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = study(tmp_path / "here", lambda m, p, s, t, a: a == "native")
    told = reference("int8", [here])
    assert told["layer"] == "optimization"
    assert "Jacob" in told["what"]
    assert any("int8" in each["text"] for each in told["evidence"])
    assert any("CSR" in reason for reason in reference("gemm")["refuses"])
    assert any("bfloat16" in reason for reason in reference("onnxruntime")["refuses"])
    assert app.main(["catalog", "winograd"]) == 0
    assert "Lavin" in capsys.readouterr().out
    assert app.main(["catalog", "winogrd"]) == 2
    assert "Did you mean 'winograd'" in capsys.readouterr().err


def test_latency_as_seen_is_advised_by_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = study(tmp_path / "out")
    quiet, seen = advise([folder]), advise([folder], metric="latency_ms")
    assert "quiet_ms" in quiet.best.text and "latency_ms" not in quiet.best.text
    assert "latency_ms" in seen.best.text and "quiet_ms" not in seen.best.text
    for found, own, other in ((quiet, "quiet_ms", "latency_ms"), (seen, "latency_ms", "quiet_ms")):
        tried = [said for layer in found.layers for said in layer.tried if said.numbers]
        assert tried
        assert all(own in said.text and other not in said.text for said in tried)
