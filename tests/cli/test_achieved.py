"""`dlas show` says what each optimization recorded, layer by layer."""

import re
from pathlib import Path

import pytest

from dlas.cli.achieved import achieved_text
from dlas.cli.show import describe, show_text
from dlas.core.records import Status
from dlas.core.stack import LAYERS, Choice, Stack
from dlas.store.results import FILE_NAME, CellRow, FactRow, ResultStore

PRUNED = {
    "ratio_asked": 0.5,
    "ratio": 0.25,
    "channels": [32, 24],
    "macs": [1000, None],
    "layers": {"stem": [16, 8], "ghost.cheap": [16, 1], "head": [10, 10]},
    "heads": [[3, 2]],
    "left_alone": {"head": "its channels are the outputs"},
    "far": {"ghost.cheap": 0.9375},
    "norms": ["norm", "last.norm"],
    "said": ["asked for 50% of the channels, far from that: ghost.cheap 94%"],
    "fine_tuning": {"epochs": 0, "images": 0},
    "technique": "channel-pruning",
}


def line(text, name):
    (found,) = [each for each in text.splitlines() if each.split()[:1] == [name]]
    return found.split(maxsplit=4)


def test_a_line_for_each_layer_with_what_it_lost_and_why_not():
    text = achieved_text(PRUNED, None)
    assert text.startswith("achieved by channel-pruning\n  asked for 50% of the channels, far")
    assert re.search(r"^layer +before +after +lost +left alone +far$", text, re.M)
    assert line(text, "stem") == ["stem", "16", "8", "50%"]
    assert line(text, "ghost.cheap") == ["ghost.cheap", "16", "1", "94%", "0.9375"]
    assert line(text, "head") == ["head", "10", "10", "0%", "its channels are the outputs"]
    assert re.search(r"^  channels +32 to 24$", text, re.M)
    assert re.search(r"^  heads +3 to 2$", text, re.M)
    assert re.search(r"^  fine tuning +epochs 0, images 0$", text, re.M)


def test_what_has_no_layers_and_what_has_one_number_a_layer():
    counts = achieved_text({"quantized": {"Conv": 3, "Gemm": 1}, "technique": "int8"}, None)
    assert counts.splitlines() == ["achieved by int8", "  quantized  Conv 3, Gemm 1"]
    shares = achieved_text({"sparsity": 0.8, "layers": {"fc": 0.75}}, None)
    assert line(shares, "fc") == ["fc", "0.75"]


def stored(folder: Path, achieved: list) -> str:
    made = Stack(**{layer: (Choice("x"),) for layer in LAYERS})
    texts = {layer: made.text(layer) for layer in LAYERS}
    with ResultStore(folder / FILE_NAME) as store:
        store.put(
            CellRow("s", made.cell, 0, made.to_json(), **texts, status=Status.COMPLETE),
            FactRow(made.cell, "h", "build", "k", "c", Status.COMPLETE,
                    value={"artifact_mb": 1.5, "achieved": achieved}),
        )  # fmt: skip
    return made.cell


def test_show_has_it(tmp_path):
    cell = stored(tmp_path, [PRUNED, {"quantized": {"Conv": 3}, "technique": "int8"}])
    for width in (None, 80):
        text = show_text(describe(tmp_path, cell), width)
        assert text.index("achieved by channel-pruning") < text.index("achieved by int8")
        assert "ghost.cheap" in text


def test_what_channel_pruning_really_records(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_pruning")
    from dlas.core.protocols import DataSpec, Network
    from dlas.layers.optimization.channel_pruning import ChannelPruning

    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.Conv2d(8, 8, 3),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 10),
    ).eval()  # fmt: skip
    network = Network(DataSpec(classes=10, channels=1, height=8, width=8), module)
    pruning = ChannelPruning(ratio=0.5, epochs=0, ignore=("1",))
    done = pruning.apply(network, None, tmp_path)
    cell = stored(tmp_path, [{**done.achieved, "technique": pruning.name}])
    text = show_text(describe(tmp_path, cell), None)
    assert line(text, "0") == ["0", "8", "4", "50%"]
    assert "ignore" in line(text, "1")[-1]
    assert "left alone" in text
