"""``dlas analyze --table`` and ``dlas compare`` on tables as others write them."""

from __future__ import annotations

import json
import random

import pytest

from dlas.cli import app

THROUGHPUT = """\
model,compile,images_per_sec
a,eager,100
a,dynamo,180
b,eager,50
b,dynamo,90
c,eager,70
c,dynamo,130
"""
VERSIONS = "ort,model,ms\n1.9,a,10\n1.9,b,20\n1.10,a,8\n1.10,b,16\n1.20,a,7\n1.20,b,14\n"
QUANTIZED = "model,quantization,ms\na,None,10\na,,11\na,int8,5\nb,None,20\nb,,21\nb,int8,9\n"
ROUNDS = "model,run,ms,accuracy\n" + "".join(
    f"{m},{r},{ms + r / 100},{a if r > 1 else low}\n"
    for m, ms, a, low in (("a", 8, 0.9, 0.6), ("b", 6, 0.8, 0.8), ("c", 4, 0.7, 0.7))
    for r in (1, 2, 3)
)
BREAK_EVEN = """\
device,model,threads,ms
x,a,1,10
x,a,4,5
x,b,1,20
x,b,4,10
y,a,1,10
y,a,2,9
y,a,8,8
y,b,1,20
y,b,2,10
y,b,8,3
"""
GIVEN = """\
model,gpu,precision,ms,price,acc
AlexNet,small,fp32,10,1,0.56
AlexNet,small,int8,6,1,0.55
AlexNet,large,fp32,5,3,0.56
AlexNet,large,int8,4,3,0.55
VGG,small,fp32,40,1,0.70
VGG,small,int8,OOM,1,
VGG,large,fp32,12,3,0.70
VGG,large,int8,11,3,0.62
"""


@pytest.fixture
def said(capsys, tmp_path):
    """Analyse a text; return exit code, standard output and standard error."""

    def analyze(text: str | bytes, *options: str, name: str = "t.csv") -> tuple[int, str, str]:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        code = app.main(["analyze", "--table", str(path), *options])
        out, err = capsys.readouterr()
        return code, out, err

    return analyze


def shuffled(text: str, seed: int) -> str:
    head, *rows = text.splitlines()
    random.Random(seed).shuffle(rows)
    return "\n".join([head, *rows])


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (BREAK_EVEN, ["--layers", "device,model,threads", "--metric", "ms"]),
        (ROUNDS, ["--layers", "model", "--metric", "ms", "--rounds", "run"]),
        (ROUNDS, ["--layers", "model", "--metric", "ms", "--repeats"]),
        (QUANTIZED, ["--layers", "model,quantization", "--metric", "ms"]),
        (GIVEN, ["--layers", "model,gpu,precision", "--given", "model", "--minimize", "ms,price"]),
        (VERSIONS, ["--layers", "ort,model", "--metric", "ms"]),
    ],
    ids=["break-even", "rounds", "repeats", "empty", "given", "versions"],
)
def test_the_order_of_rows_changes_nothing(said, tmp_path, text, options):
    texts = set()
    for seed in range(4):
        file = tmp_path / "f.json"
        code, _, err = said(shuffled(text, seed), *options, "-o", str(file))
        assert (code, err) == (0, "")
        texts.add(file.read_text())
    assert len(texts) == 1


def test_a_rate_is_maximized(said):
    code, out, _ = said(THROUGHPUT, "--layers", "model,compile", "--metric", "images_per_sec")
    assert code == 0
    assert "Take model=a, compile=dynamo: images_per_sec 180" in out
    assert "note: More of images_per_sec is better, its name is that of a rate" in out
    _, out, _ = said(THROUGHPUT, "--layers", "model,compile", "--minimize", "images_per_sec")
    assert "Take model=b, compile=eager" in out


def test_a_direction_that_no_name_tells_is_asked_for(said):
    text = THROUGHPUT.replace("images_per_sec", "result")
    code, out, err = said(text, "--layers", "model,compile", "--metric", "result")
    assert (code, out) == (2, "")
    assert "say --minimize result or --maximize result" in err
    _, out, _ = said(text, "--layers", "model,compile", "--maximize", "result")
    assert "Take model=a, compile=dynamo" in out


def test_versions_are_no_numbers(said):
    code, out, _ = said(VERSIONS, "--layers", "ort,model", "--metric", "ms", "--top", "0")
    assert code == 0
    assert "ort (3 levels, ordered as versions from 1.9 to 1.20" in out
    assert "1.1 " not in out and "Take ort=1.20, model=a" in out
    assert "ort=1.20 is 43 % faster than 1.9" in out
    assert not [line for line in out.splitlines() if "higher ort" in line]


def test_what_may_be_versions_is_not_ordered_until_it_is_said(said):
    text = VERSIONS.replace("1.10", "1.11").replace("1.20", "1.12").replace("ort", "level")
    options = ["--layers", "level,model", "--metric", "ms"]
    _, out, _ = said(text, *options)
    assert "level is not ordered: 1.11, 1.12, 1.9 may be versions or numbers" in out
    _, out, _ = said(text, *options, "--order", "level=versions")
    assert "level (3 levels, ordered as versions from 1.9 to 1.12" in out
    code, _, err = said(text, *options, "--order", "level=version")
    assert code == 2 and "Did you mean 'versions'" in err


def test_none_is_a_level_and_nothing_is_none(said):
    options = ["--layers", "model,quantization", "--metric", "ms", "--top", "0"]
    code, out, _ = said(QUANTIZED, *options, "--baseline", "quantization=None")
    assert code == 0
    assert "2 of 6 rows have no quantization: they are shown as its level (empty)." in out
    assert "quantization=int8 is 2.11 times faster than None" in out
    assert "quantization=(empty) is 7.5 % slower than None" in out


def test_columns_that_differ_by_round_are_medians(said):
    _, out, _ = said(ROUNDS, "--layers", "model", "--metric", "ms", "--rounds", "run")
    assert "the median is taken (accuracy)" in out
    _, out, _ = said(
        ROUNDS, "--layers", "model", "--minimize", "ms", "--maximize", "accuracy",
        "--rounds", "run",
    )  # fmt: skip
    assert "3 cells are on the Pareto front" in out and "a (ms 8.02, accuracy 0.900)" in out


ODD_NAMES = (
    "status", "host", "value", "cell", "round", "reason", "layer", "level", "order", "cells",
    "row", "changed", "df", "a x b",
)  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_layer_may_have_any_name(said, name):
    text = VERSIONS.replace("model", name)
    code, out, err = said(
        text, "--layers", f"{name},ort", "--metric", "ms", "--top", "0", "--format", "json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["complete"] == 6
    assert found["best"]["cell"] == "a / 1.20"
    assert f"{name}=b is 2.00 times slower than a" in json.dumps(found["findings"])


def test_other_words_for_a_row_that_ran_are_asked_for(said):
    text = "m,state,ms\na,ok,1\nb,done,2\nc,oom,3\n"
    options = ["--layers", "m", "--metric", "ms", "--status", "state"]
    code, out, err = said(text, *options)
    assert (code, out) == (2, "")
    assert "no row is 'complete'. It has 'done' (1 row), 'ok' (1 row), 'oom' (1 row)" in err
    code, out, _ = said(text, *options, "--status-ok", "ok,Done")
    assert code == 0 and "2 of 3 cells complete" in out
    code, _, err = said(text, *options, "--status-ok", "okay")
    assert code == 2 and "no row is 'okay'. Did you mean 'ok'?" in err


def test_rows_that_did_not_run_are_left_out_and_counted(said):
    text = "m,n,ms\na,x,1\na,y,OOM\nb,x,0\nb,y,2\nc,x,3\nc,y,inf\n"
    code, out, _ = said(text, "--layers", "m,n", "--metric", "ms", "--top", "0")
    assert code == 0 and "3 of 6 cells complete" in out
    assert "3 of 6 rows have no positive number as ms and are left out" in out
    assert "left out: 'OOM' (1), 'inf' (1), 0 (1)." in out
    assert "1 cells are failed" in out and "ms is 'OOM'" in out


def test_a_column_of_units_that_mixes_them_is_warned_of(said):
    text = "m,Units,time\na,ms,100\nb,s,0.2\nc,ms,300\n"
    code, out, _ = said(text, "--layers", "m", "--metric", "time")
    assert code == 0
    assert "Warning: the column Units holds several units (ms in 2 rows, s in 1 rows)" in out
    _, out, _ = said(text.replace(",s,", ",ms,"), "--layers", "m", "--metric", "time")
    assert "Warning" not in out


def test_a_spread_is_no_part_of_a_number_and_it_is_said(said):
    text = "m,t ms\na,12.3 ± 0.4\nb,6.1 ± 0.2\n"
    code, out, _ = said(text, "--layers", "m", "--metric", "t ms")
    assert code == 0 and "t ms 6.10" in out
    assert "2 rows of t ms hold a spread behind ±, which is left out" in out


def test_levels_that_may_be_one_are_warned_of(said):
    text = "m,g,ms\nResNet18,x,1\nresnet-18,x,2\nvgg,x,3\nVGG,y,2\n"
    _, out, _ = said(text, "--layers", "m,g", "--metric", "ms")
    assert "Warning: levels of m differ only in case" in out
    assert "'ResNet18' and 'resnet-18'; 'VGG' and 'vgg'" in out
    _, out, _ = said(text.replace("resnet-18", "b").replace("VGG", "c"), "--layers", "m,g",
                     "--metric", "ms")  # fmt: skip
    assert "Warning" not in out


def test_units_behind_numbers(said):
    code, out, _ = said("m,t\na,12 ms\nb,13.5 ms\n", "--layers", "m", "--minimize", "t")
    assert code == 0 and "t is in ms, as its rows say." in out and "t 12.0" in out
    code, _, err = said("m,t\na,12 ms\nb,1 s\n", "--layers", "m", "--minimize", "t")
    assert code == 2 and "'t' mixes units" in err


def test_decimal_commas_per_cent_signs_and_semicolons(said):
    text = "\ufeffmodel;x;ms;acc\na;0,5;1.234,5;76,1%\na;0,25;1.100,5;74%\n\nb;0,5;900;70,0%\n"
    code, out, _ = said(
        text, "--layers", "model,x", "--minimize", "ms", "--maximize", "acc",
        "--at-least", "acc=75%", name="t.txt",
    )  # fmt: skip
    assert code == 0
    assert "Numbers are read with decimal commas" in out
    assert "acc is in per cent and read as a share" in out
    assert "1 cell is on the Pareto front of ms, acc: model=a, x=0.5 (ms 1234, acc 0.761)" in out
    assert "x (2 levels, ordered as numbers from 0.25 to 0.5" in out


def test_given_layers_are_never_chosen(said):
    options = ["--layers", "model,gpu,precision", "--metric", "ms", "--given", "model"]
    code, out, _ = said(GIVEN, *options, "--top", "0")
    assert code == 0
    assert "With model=AlexNet take gpu=large, precision=int8: ms 4.00" in out
    assert "With model=VGG take gpu=large, precision=int8: ms 11.0" in out
    assert "One choice for every model: gpu=large, precision=int8, the best for 2 of 2" in out
    for sentence in out.splitlines():
        assert "ake AlexNet" not in sentence and "model=AlexNet is" not in sentence
        assert "The second-best model" not in sentence
    code, _, err = said(GIVEN, *options[:-1], "gpus")
    assert code == 2 and "given: 'gpus' is not a layer. Did you mean 'gpu'?" in err


def test_several_metrics_and_limits_give_the_front_first_by_name(said):
    code, out, _ = said(
        GIVEN, "--layers", "model,gpu,precision", "--given", "model", "--minimize", "ms,price",
        "--at-least", "acc=0.56", "--top", "4",
    )  # fmt: skip
    assert code == 0
    first = out.index("1. [front, stated] With model=AlexNet 2 cells are on the Pareto front of")
    assert "gpu=large, precision=fp32 (ms 5.00, price 3.00)" in out[first:]
    assert "model=AlexNet, gpu=large, precision=int8" not in out
    code, _, err = said(GIVEN, "--layers", "model", "--minimize", "ms", "--at-least", "acc=good")
    assert code == 2 and "--at-least 'acc=good': must be COLUMN=NUMBER" in err


def test_a_limit_that_nothing_meets_says_where_the_column_lies(said):
    _, out, _ = said(
        GIVEN, "--layers", "model,gpu,precision", "--minimize", "ms", "--at-least", "acc=95"
    )
    assert "acc at least 95: no row meets it; acc goes from 0.55 to 0.7." in out


def test_more_findings_are_in_a_file_only_where_there_is_one(said, tmp_path):
    options = ["--layers", "model,gpu,precision", "--metric", "ms", "--top", "1"]
    _, out, _ = said(GIVEN, *options)
    assert "more findings are shown by --top 0, or written by -o FILE." in out
    _, out, _ = said(GIVEN, *options, "-o", str(tmp_path / "f.json"))
    assert f"more findings are in {tmp_path / 'f.json'}." in out


def test_two_tables_are_compared(capsys, tmp_path):
    before, after = tmp_path / "a.csv", tmp_path / "b.csv"
    before.write_text(VERSIONS)
    after.write_text(VERSIONS.replace("1.20,a,7\n", "1.20,a,14\n").replace(",", ";"))
    command = ["compare", str(before), str(after)]
    assert app.main([*command, "--layers", "ort,model", "--metric", "ms"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("6 common cells") and "1.20 / a: 0.500 (slower)" in out
    assert app.main(command) == 2
    assert "two tables need --layers" in capsys.readouterr().err
    assert app.main(["compare", str(before), str(tmp_path), "--layers", "ort"]) == 2
    assert "two output folders or two tables" in capsys.readouterr().err


def test_two_tables_read_their_levels_alike(capsys, tmp_path):
    """Alone, the second would call 1.10 a number, and 1.0 the same as 1."""
    before, after = tmp_path / "a.csv", tmp_path / "b.csv"
    before.write_text("v,n,ms\n1.9,1,10\n1.10,2,8\n")
    after.write_text("v,n,ms\n1.10,2.0,4\n")
    words = ["compare", str(before), str(after), "--layers", "v,n", "--metric", "ms"]
    assert app.main([*words, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [r["key"] for r in found["cells"]] == ["1.10 / 2"]


def test_what_was_read_is_said(said):
    text = "model,batch,ms,note,colour\na,1,1,x,red\na,1.0,1.1,x,red\na,2,2,y,red\nb,1,3,z,red\n"
    code, out, err = said(text, "--layers", "model,batch", "--metric", "ms", "--repeats")
    assert (code, err) == (0, "")
    assert "note: Layers: model (2 levels" in out
    assert "batch (2 levels, ordered as numbers from 1 to 2" in out
    assert "Levels of batch that are the same number are one level: 1.0 is 1." in out
    assert "Columns that have no say, being neither layers nor metrics: note, colour." in out


def test_large_tables_say_what_they_leave_out(said):
    rows = [f"m{i},{g},{1 + i % 7 + (g == 'y')}" for i in range(100) for g in ("x", "y")]
    text = "\n".join(["model,gpu,ms", *rows])
    code, out, _ = said(text, "--layers", "model,gpu", "--metric", "ms", "--top", "0")
    assert code == 0
    assert "model has 100 levels, and pairs of them are compared up to 64" in out
    assert "or say --given model if it is not to be chosen." in out
    assert 1 < out.count("[speed-up") <= 11
    code, out, _ = said(text, "--layers", "model,gpu", "--metric", "ms", "--given", "model")
    assert "Of 100 model the best choice is gpu=x for 100." in out
