"""Each kind of wrong study file: all problems at once, with their place; no torch loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dlas.cli.app import main

FOLDER = Path(__file__).parents[1] / "data" / "wrong-studies"

# File: what each problem begins with after the file's name, and what else its line holds.
EXPECTED: dict[str, list[tuple[str, ...]]] = {
    "alias-bomb": [(": has more than 100000 values",)],
    "bad-design": [(":10: design: must be full, one-at-a-time or {random", 'got "fractional"')],
    "bad-goal": [
        (":10: goals.minimize[0]: no metric is called \"latency\". Did you mean 'latency_ms'",),
        (":10: goals.accuracy_drop_at_mst: unknown key. Did you mean 'accuracy_drop_at_most'",),
    ],
    "bad-measure": [
        (":10: measure.rounds: ", "greater than or equal to 1 and no more than 1000, got 0"),
        (":10: measure.min_second: unknown key. Did you mean 'min_seconds'", "min_runs"),
    ],
    "bad-name": [(":2: name: may hold letters", 'got "../wrong"')],
    "bad-random": [
        (":10: design.random.n: ", "greater than or equal to 1, got 0"),
        (":10: design.random.sed: unknown key. Did you mean 'seed'", "Allowed: n, seed"),
    ],
    "bad-value": [
        (":6: layers.optimization[0].weight-pruning.sparsity: ", "less than 1, got 1.5"),
    ],
    "base-of-two": [(":12: base.hardware: a base is one choice, got 2",)],
    "base-without-design": [(":10: base: is used by `design: one-at-a-time` only",)],
    "duplicate-key": [(":10: name: the key stands twice, first on line 2",)],
    "empty": [(": is empty",)],
    "empty-list": [(":9: layers.hardware[0].cpu.threads: needs a list of values", "got []")],
    "goals-in-per-cent": [
        (":8: layers.hardware[0].cpu.threads: ", 'got ".inf"'),
        (":10: goals.accuracy_at_least: accuracy is a share from 0 to 1, got 95", "is 0.95"),
        (":11: goals.accuracy_drop_at_most: ", "-1 to 1, got 2: 2 % is 0.02"),
        (":12: goals.latency_ms_at_most: latency_ms is never negative, got -1",),
    ],
    "missing-layer": [(":3: layers: needs the layer 'model'", "resnet-8")],
    "missing-version": [(":1: needs the key 'dlas'", "`dlas: 1`")],
    "no-layers": [(":1: needs the key 'layers'", "'stacks'")],
    "not-a-mapping": [(":1: a study file is a mapping of keys", 'got ["dlas", 1]')],
    "not-utf8": [(": is not UTF-8 text",)],
    "not-yaml": [(":6: is not YAML",)],
    "null-choice": [(":6: layers.optimization[0]: a choice is a name", "write none, not null")],
    "pipeline-in-software": [(":7: layers.software[0]: takes one choice, not a list of steps",)],
    "python-tag": [
        (":5: layers.model: the tag tag:yaml.org,2002:python/object/apply:os.system",),
        (":5: layers.model: must be a list of choices",),
    ],
    "rule-calls": [(":10: where[0]: ", "character 17: '.' is not part of the language")],
    "rule-no-order": [(":10: where[0]: ", "1 < 'two' compares what has no order")],
    "rule-refuses-all": [(": no stack is left",)],
    "rule-syntax": [(":10: where[0]: ", "character 18: '=' is not part of the language")],
    "rule-unknown-column": [(":12: where[1]: ", "Did you mean 'software.runtime'")],
    "rule-without-quotes": [(":10: exclude[0]: ", "no column is called 'pytorch'", "quotes")],
    "settings-without-a-dash": [(":9: layers.hardware.cpu: ", "`- cpu: {...}`")],
    "several": [
        (
            ":4: layers.dataset[0]: no dataset technique is called",
            "'fashion-mnist'",
        ),
        (":5: layers.model[0].mobilenet-v2.widht: ", "Did you mean 'width'"),
        (":7: layers.optimization.pruning[1].weight-pruning.sparsity: ", "got -1"),
        (":8: layers.optimization.precision[0]: ", "Did you mean 'float16'"),
        (":11: layers.hardware[0].cpu.threads: ", "greater than or equal to 1, got 0"),
        (":12: design: ", "Did you mean 'full'"),
        (":13: where[0]: ", "Did you mean 'software.runtime'"),
        (":14: measure.rounds: ", 'valid integer, or {min: 3, max: 12}, got "none"'),
        (':15: goals.minimize[0]: no metric is called "speed"',),
    ],
    "stacks-with-holes": [
        (":4: stacks[0]: needs the layer 'software'", "pytorch"),
        (":5: stacks[1].hardware: no hardware technique is called 'cpo'", "'cpu'"),
    ],
    "sublayer-named-like-a-parameter": [
        (":7: layers.optimization.sparsity: ", "a parameter of weight-pruning"),
    ],
    "too-many": [(": design: full makes 125000 stacks; at most 100000", "random")],
    "two-keys-in-a-choice": [(":9: layers.hardware[0]: a choice is a name or one",)],
    "two-sublayers-in-software": [(":7: layers.software: takes one choice", "got 2: one, two")],
    "unknown-key": [(":10: desing: unknown key. Did you mean 'design'", "Allowed: dlas, name")],
    "unknown-layer": [(":6: layers.optimisation: no such layer. Did you mean 'optimization'",)],
    "unknown-parameter": [
        (":9: layers.hardware[0].cpu.thread: ", "Did you mean 'threads'", "Parameters: threads"),
    ],
    "unknown-technique": [
        (":5: layers.model[0]: no model technique is called 'resnet8'", "Did you mean 'resnet-8'"),
    ],
    "wrong-type": [(":9: layers.hardware[0].cpu.threads: ", 'valid integer, got "two"')],
    "wrong-version": [(":1: dlas: ", "1, got 2")],
}


def test_every_file_is_expected():
    assert sorted(EXPECTED) == sorted(path.stem for path in FOLDER.glob("*.yaml"))
    assert len(EXPECTED) >= 20


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_all_problems_are_told_with_their_place(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = FOLDER / f"{name}.yaml"
    assert main(["plan", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    lines = said.err.splitlines()
    for line, (start, *parts) in zip(lines, EXPECTED[name], strict=False):
        assert line.startswith(str(path) + start)
        for part in parts:
            assert part in line
    assert len(lines) == len(EXPECTED[name]), said.err
    assert list(tmp_path.iterdir()) == [], "something in the file was executed"


def test_no_torch_is_loaded_for_any_of_them():
    code = (
        "import json, sys; from dlas.cli.app import main\n"
        "codes = {main([c, f, *rest]) for f in sys.argv[1:]"
        " for c, rest in (('plan', ()), ('run', ('--out', 'never')))}\n"
        "heavy = {'torch', 'tvm', 'pandas', 'onnxruntime', 'openvino'} & set(sys.modules)\n"
        "print(json.dumps([sorted(codes), sorted(heavy)]))"
    )
    files = [str(path) for path in sorted(FOLDER.glob("*.yaml"))]
    done = subprocess.run(
        [sys.executable, "-c", code, *files], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [[2], []]
    assert "Traceback" not in done.stderr
    assert not Path("never").exists()
