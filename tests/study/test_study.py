import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlas.core.errors import UserError
from dlas.core.goals import Goals
from dlas.core.rules import Rule, columns
from dlas.study import form
from dlas.study.study import Study
from fake_layers import fakes  # noqa: F401

pytestmark = pytest.mark.usefixtures("fakes")

LAYERS = {"dataset": ["pictures"], "model": ["small"], "software": ["eager"]}
FIXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def study(layers=None, **keys):
    return Study.from_dict({"name": "s", "layers": {**LAYERS, **(layers or {})}, **keys})


def texts(made, layer):
    return [stack.text(layer) for stack in made.stacks]


def problems(data) -> list[str]:
    with pytest.raises(UserError) as error:
        Study.from_dict(data)
    return list(error.value.problems)


# ---------------------------------------------------------------- expansion


def test_layers_left_out_get_their_neutral_choice():
    (stack,) = study().stacks
    assert [stack.text(layer) for layer in ("optimization", "algorithm", "hardware")] == [
        "none", "native", "cpu",
    ]  # fmt: skip
    assert stack.sublayers == {}


def test_one_choice_needs_no_list():
    assert study({"model": "small"}).stacks == study({"model": ["small"]}).stacks


def test_a_list_expands_where_the_type_is_no_list():
    made = study({"model": [{"small": {"width": [0.5, 1.0]}}, {"large-net": {"widths": [1, 2]}}]})
    assert texts(made, "model") == ["small(width=0.5)", "small", "large-net(widths=[1,2])"]


def test_values_expands_explicitly():
    made = study({"model": [{"large-net": {"widths": {"values": [[1], [2, 3]]}}}]})
    assert texts(made, "model") == ["large-net(widths=[1])", "large-net(widths=[2,3])"]
    made = study({"hardware": [{"cpu": {"threads": {"values": [1, 2]}}}]})
    assert texts(made, "hardware") == ["cpu", "cpu(threads=2)"]


def test_sublayers_are_crossed_and_applied_in_the_order_written():
    sub = {
        "pruning": ["none", {"weight-pruning": {"sparsity": [0.8, 0.9]}}],
        "precision": ["none", "int8"],
    }
    made = study({"optimization": sub})
    assert texts(made, "optimization") == [
        "none", "int8", "weight-pruning(sparsity=0.8)", "weight-pruning(sparsity=0.8)+int8",
        "weight-pruning(sparsity=0.9)", "weight-pruning(sparsity=0.9)+int8",
    ]  # fmt: skip
    assert made.stacks[2].sublayers == {
        "optimization.pruning": "weight-pruning(sparsity=0.8)",
        "optimization.precision": "none",
    }
    swapped = study({"optimization": dict(reversed(sub.items()))})
    assert "int8+weight-pruning(sparsity=0.8)" in texts(swapped, "optimization")


def test_a_pipeline_is_a_list_inside_one_choice():
    steps = [{"weight-pruning": {"sparsity": [0.8, 0.9]}}, "none", "int8"]
    made = study({"optimization": ["none", steps]})
    assert texts(made, "optimization") == [
        "none", "weight-pruning(sparsity=0.8)+int8", "weight-pruning(sparsity=0.9)+int8",
    ]  # fmt: skip


def test_one_sublayer_is_fine_where_a_layer_takes_one_choice():
    made = study({"software": {"kind": ["eager", "torch-compile"]}})
    assert texts(made, "software") == ["eager", "torch-compile"]
    assert made.stacks[1].sublayers == {"software.kind": "torch-compile"}


def test_the_same_stack_written_twice_is_one():
    made = study({"model": ["small", {"small": {"width": 1.0}}, {"small": None}]})
    assert texts(made, "model") == ["small"]
    made = study({"optimization": {"a": ["none", "int8"], "b": ["none", "int8"]}})
    assert texts(made, "optimization") == ["none", "int8", "int8+int8"]


widths = st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True)
threads = st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True)
sparsities = st.lists(st.integers(0, 9).map(lambda n: n / 10), max_size=4, unique=True)


def grid(w, t, s):
    return {
        "model": [{"small": {"width": w}}],
        "optimization": {
            "pruning": ["none", *([{"weight-pruning": {"sparsity": s}}] if s else [])],
            "precision": ["none", "int8"],
        },
        "hardware": [{"cpu": {"threads": t}}],
    }


@FIXED
@given(widths, threads, sparsities)
def test_the_count_is_the_product(w, t, s):
    made = study(grid(w, t, s))
    assert len(made.stacks) == math.prod((len(w), len(t), 1 + len(s), 2))
    assert len({stack.cell for stack in made.stacks}) == len(made.stacks)


@FIXED
@given(widths, threads, sparsities, st.randoms(use_true_random=False))
def test_the_cells_do_not_depend_on_the_order_of_the_file(w, t, s, shuffler):
    before = {stack.cell for stack in study(grid(w, t, s)).stacks}
    layers = {**LAYERS, **grid(w, t, s)}
    for values in (w, t, s):
        shuffler.shuffle(values)
    names = list(layers)
    shuffler.shuffle(names)
    layers = {name: layers[name] for name in names}
    after = Study.from_dict({"layers": layers, "name": "s"})
    assert {stack.cell for stack in after.stacks} == before


@FIXED
@given(widths, threads, sparsities.filter(len))
def test_where_and_exclude_part_the_stacks(w, t, s):
    rule = "hardware.threads > 9 or optimization.sparsity >= 0.5 or model.width == 7"
    everything = study(grid(w, t, s)).stacks
    holding = [x for x in everything if Rule.parse(rule).holds(columns(x))]
    rest = [x for x in everything if x not in holding]
    for key, expected in (("where", holding), ("exclude", rest)):
        if expected:
            assert list(study(grid(w, t, s), **{key: rule}).stacks) == expected
        else:
            with pytest.raises(UserError, match="no stack is left"):
                study(grid(w, t, s), **{key: rule})


# ---------------------------------------------------------------- designs

GRID = grid([1, 2], [1, 2], [0.8, 0.9])


def test_all_rules_of_where_must_hold_and_none_of_exclude():
    made = study(
        GRID,
        where=["hardware.threads == 2", "optimization.precision == 'none'"],
        exclude=["model.width == 1", "optimization == 'none'"],
    )
    assert texts(made, "optimization") == [
        "weight-pruning(sparsity=0.8)", "weight-pruning(sparsity=0.9)",
    ]  # fmt: skip
    assert {s.hardware[0].params["threads"] for s in made.stacks} == {2}


def test_one_at_a_time_starts_at_the_first_choices_or_at_the_base():
    made = study(GRID, design="one-at-a-time")
    assert len(made.stacks) == 1 + 1 + 1 + 2 + 1
    assert made.stacks[0].text("model") == "small"
    base = {"model": {"small": {"width": 2}}, "optimization": {"precision": "int8"}}
    based = study(GRID, design="one-at-a-time", base=base)
    assert based.stacks[0].text("model") == "small(width=2.0)"
    assert based.stacks[0].text("optimization") == "int8"
    assert len(based.stacks) == len(made.stacks)


def test_a_base_outside_of_the_levels_is_one_more_stack():
    base = {"model": {"small": {"width": 9}}}
    made = study(GRID, design="one-at-a-time", base=base)
    assert len(made.stacks) == 1 + 2 + 1 + 2 + 1


def test_random_draws_n_that_meet_the_rules():
    made = study(GRID, design={"random": {"n": 5, "seed": 3}}, where="hardware.threads == 2")
    assert len(made.stacks) == 5
    assert made.notes == ()
    again = study(GRID, design={"random": {"n": 5, "seed": 3}}, where="hardware.threads == 2")
    assert again.stacks == made.stacks
    few = study(GRID, design={"random": {"n": 50}}, where="hardware.threads == 2")
    assert len(few.stacks) == 12
    assert "only 12 stacks" in few.notes[0]


def test_explicit_stacks():
    one = {"dataset": "pictures", "model": {"small": {"width": 2}}, "software": "eager",
           "optimization": [{"weight-pruning": {"sparsity": 0.9}}, "int8"],
           "hardware": {"cpu": {"threads": [1, 2]}}}  # fmt: skip
    made = Study.from_dict({"name": "s", "stacks": [one]})
    assert texts(made, "optimization") == ["weight-pruning(sparsity=0.9)+int8"] * 2
    assert texts(made, "hardware") == ["cpu", "cpu(threads=2)"]
    both = Study.from_dict({"name": "s", "layers": LAYERS, "stacks": [one, LAYERS_ONE]})
    assert len(both.stacks) == 3
    assert both.stacks[:2] == made.stacks


LAYERS_ONE = {name: choices[0] for name, choices in LAYERS.items()}


def test_too_many_stacks_are_refused_before_they_are_made():
    (said,) = problems(
        {
            "name": "s",
            "layers": {
                **LAYERS,
                "model": [{"small": {"width": list(range(1, 1001))}}],
                "hardware": [{"cpu": {"threads": list(range(1, 1001))}}],
            },
        }
    )
    assert "makes 1000000 stacks" in said
    assert "random" in said


# ---------------------------------------------------------------- the rest of the file


def test_settings_and_goals():
    made = study(
        measure={"rounds": 5, "min_seconds": 1},
        goals={"minimize": ["latency_ms"], "accuracy_drop_at_most": 0.02, "accuracy_at_least": 0},
    )
    assert (made.measure.rounds.min, made.measure.rounds.max) == (5, 5)
    assert (made.measure.min_seconds, made.measure.min_runs) == (1, 20)
    ranged = study(measure={"rounds": {"min": 3, "max": 9}, "precision": "2%"}).measure
    assert (ranged.rounds.min, ranged.rounds.max, ranged.precision) == (3, 9, 0.02)
    assert made.goals.minimize == ("latency_ms",)
    assert made.goals.at_most == (("accuracy_drop", 0.02),)
    assert made.goals.at_least == (("accuracy", 0),)


def test_a_file_and_the_same_keys_are_the_same_study(tmp_path):
    data = {"dlas": 1, "name": "s", "layers": {**LAYERS, **GRID}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    loaded = Study.load(path)
    assert loaded.stacks == Study.from_dict(data).stacks
    assert loaded.text == path.read_text()
    assert loaded.folder == tmp_path
    assert loaded.path == path


@pytest.mark.parametrize(
    "text",
    [
        "dlas: 1\nname: small\nlayers: {dataset: pictures, model: small, software: eager}\n",
        "{dlas: 1, name: small,\n layers: {dataset: pictures, model: small, software: eager}}",
        "dlas: 1\nname: small\nfolder: inner\n"
        "layers: {dataset: pictures, model: small, software: eager}\n...\n",
    ],
)
def test_a_copy_stored_elsewhere_is_the_same_study(tmp_path, text):
    (tmp_path / "inner").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "study.yaml").write_text(text)
    loaded = Study.load(tmp_path / "study.yaml")
    (tmp_path / "out/study.yaml").write_text(loaded.copy())
    again = Study.load(tmp_path / "out/study.yaml")
    assert again.folder == loaded.folder == tmp_path / ("inner" if "folder" in text else "")
    assert again.stacks == loaded.stacks
    assert again.copy() == loaded.copy()


def test_a_folder_that_is_not_here_is_said(tmp_path):
    made = Study.from_dict(
        {
            "name": "small",
            "folder": "/no/such/folder",
            "layers": LAYERS,
        },
        folder=tmp_path,
    )
    assert made.folder == tmp_path
    assert made.notes == (f"folder: /no/such/folder is not here; {tmp_path} is taken instead",)


def test_relative_paths_stay_as_written_and_mean_the_studys_folder(tmp_path):
    (tmp_path / "images").mkdir()
    made = Study.from_dict(
        {"name": "s", "layers": {**LAYERS, "dataset": [{"pictures": {"root": "images"}}]}},
        folder=tmp_path,
    )
    assert made.stacks[0].text("dataset") == "pictures(root=images)"
    with made.inside():
        assert Path("images").is_dir()
    assert Path.cwd() != tmp_path


def test_numbers_and_words_are_read_as_yaml_1_2(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "dlas: 1\nname: s\nlayers:\n  dataset: [pictures: {root: off}]\n"
        "  model: [small: {width: 1e-1}]\n  software: [eager]\n"
    )
    (stack,) = Study.load(path).stacks
    assert stack.model[0].params == {"width": 0.1}
    assert stack.dataset[0].params["root"] == "off"


# ---------------------------------------------------------------- problems


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        """dlas: 1
name: s
layers:
  dataset: [picture]
  model: [small: {widht: 2}]
  optimization:
    pruning: [weight-pruning: {sparsity: [0.8, 1.5]}]
  software: [eager]
where: ["software.runtme == 'eager'"]
measure: {rounds: 0}
goals: {minimize: [latency]}
"""
    )
    with pytest.raises(UserError) as error:
        Study.load(path)
    said = error.value.problems
    starts = [
        f"{path}:4: layers.dataset[0]: ",
        f"{path}:5: layers.model[0].small.widht: ",
        f"{path}:7: layers.optimization.pruning[0].weight-pruning.sparsity: ",
        f"{path}:9: where[0]: ",
        f"{path}:10: measure.rounds: ",
        f"{path}:11: goals.minimize[0]: ",
    ]
    assert len(said) == len(starts)
    for line, start in zip(said, starts, strict=True):
        assert line.startswith(start)
    for line, part in zip(said, ("'pictures'", "'width'", "1.5", "'software.runtime'", "got 0",
                                 "'latency_ms'"), strict=True):  # fmt: skip
        assert part in line


def test_a_layer_that_cannot_be_read_does_not_make_its_columns_unknown():
    said = problems(
        {"name": "s", "layers": {**LAYERS, "software": ["eeger"]},
         "where": "software.layout == 'nchw' and modle == 'x'"}
    )  # fmt: skip
    assert len(said) == 2
    assert "eeger" in said[0]
    assert "'modle'" in said[1]


@pytest.mark.parametrize(
    ("layers", "part"),
    [
        ({"model": [None]}, "write none, not null"),
        ({"model": [{"small": {}, "large-net": {}}]}, "one `name: {parameter: value}`"),
        ({"model": [["small", "small"]]}, "takes one choice, not a list of steps"),
        ({"model": []}, "at least one"),
        ({"model": {"a": ["small"], "b": ["small"]}}, "can have one sub-layer, got 2"),
        ({"hardware": {"cpu": {"threads": 1}}}, "is written `- cpu: {...}`"),
        ({"optimization": [[]]}, "at least one step"),
        ({"optimization": {"sparsity": ["weight-pruning"]}}, "a parameter of weight-pruning"),
        ({"software": {"runtime": ["eager"]}}, "already is the technique's name"),
        ({"model": [{"small": {"width": []}}]}, "at least one"),
        ({"model": [{"small": {"width": {"values": 3}}}]}, "needs a list of values"),
        ({"model": [{"small": "wide"}]}, "parameters are a mapping"),
        ({"model": [{"large-net": {"widths": {"values": [1]}}}]}, "should be a valid array"),
        ({"model": [{"small": {"width": {"a": 1}}}]}, "valid number"),
        ({"hardware": [{"cpu": {"threads": "2"}}]}, 'got "2"'),
        ({"hardware": [{"cpu": {"threads": True}}]}, "got true"),
        ({"optimization": [{"weight-pruning": {"sparsity": [i / 200 for i in range(200)],
                                               "epochs": list(range(100))}}]}, "20000 choices"),
    ],
)  # fmt: skip
def test_what_a_layer_cannot_hold(layers, part):
    said = problems({"name": "s", "layers": {**LAYERS, **layers}})
    assert len(said) == 1
    assert part in said[0]


@pytest.mark.parametrize("layer", ["dataset", "model", "software"])
def test_layers_that_must_be_there(layer):
    (said,) = problems({"name": "s", "layers": {k: v for k, v in LAYERS.items() if k != layer}})
    assert f"needs the layer {layer!r}" in said


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"base": {"model": "small"}}, "is used by `design: one-at-a-time` only"),
        ({"design": "one-at-a-time", "base": {"model": {"small": {"width": [1, 2]}}}}, "got 2"),
        ({"design": "one-at-a-time", "base": {"modle": "small"}}, "'model'"),
        ({"design": {"random": {"n": 0}}}, "design.random.n: "),
        ({"design": {"randm": {"n": 1}}}, "unknown key"),
        ({"design": ["full"]}, "must be full, one-at-a-time or"),
        ({"stacks": []}, "at least one"),
        ({"stacks": [{"model": "small"}]}, "needs the layer 'dataset'"),
        ({"where": 3}, "valid list"),
        ({"where": ["hardware.threads < 'a'"]}, "has no order"),
        ({"name": ""}, "letters, digits"),
        ({"goals": {"accuracy_at_least": "high"}}, "valid number"),
        ({"dlas": 7}, "got 7"),
    ],
)
def test_what_the_other_keys_cannot_hold(keys, part):
    said = problems({"name": "s", "layers": LAYERS, **keys})
    assert part in "\n".join(said)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("a: [1", "is not YAML"),
        ("- 1\n- 2\n", "mapping of keys"),
        ("dlas: 1\n---\ndlas: 1\n", "is not YAML"),
        ("dlas: !!python/object/apply:os.system [ls]\n", "tag"),
        ("dlas: !!timestamp 2020-01-01\n", "tag"),
        ("dlas: !!int many\n", '"many" is no tag:yaml.org,2002:int'),
        ("dlas: !!bool maybe\n", "is no tag"),
        ("name: a\nname: b\n", "stands twice, first on line 1"),
        ("? [a, b]\n: 1\n", "a key must be text"),
        ("[" * 5000, "nested deeper"),
        ("[" * 60 + "]" * 60, "nested deeper"),
        ("a: &a [*a]\n", "nested deeper"),
        ("x: " + "y" * 1_000_001, "bytes"),
    ],
)
def test_what_is_no_study_file(text, part, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        Study.load(path)
    assert any(part in line for line in error.value.problems)
    assert all(line.startswith(str(path)) for line in error.value.problems)


def test_a_bomb_of_aliases_is_refused(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 12):
        lines.append(f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]")
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match="more than 100000 values"):
        Study.load(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="there is no such study file"):
        Study.load(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        Study.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(UserError, match="UTF-8"):
        Study.load(tmp_path / "latin.yaml")


def test_data_must_be_plain():
    with pytest.raises(UserError, match="plain data"):
        Study.from_dict({"name": object()})
    with pytest.raises(UserError, match="plain data"):
        Study.from_dict({"name": float("nan")})


# ---------------------------------------------------------------- the published schema


def test_the_schema_in_the_package_is_the_schema_of_the_code():
    made = json.loads(json.dumps(form.schema()))
    assert json.loads(form.SCHEMA.read_text(encoding="utf-8")) == made, (
        "run: python -c 'import dlas.study.form; dlas.study.form.write_schema()'"
    )


def test_the_schema_accepts_what_is_right_and_refuses_what_is_not():
    checker = jsonschema.Draft202012Validator(form.schema())
    checker.check_schema(form.schema())
    good = {"dlas": 1, "name": "s", "layers": {**LAYERS, **GRID}}
    for extra in (
        {},
        {"design": "one-at-a-time", "base": {"optimization": {"precision": "int8"}}},
        {"design": {"random": {"n": 3}}},
        {"where": "a == 1", "exclude": ["b == 2"]},
        {"measure": {"rounds": {"min": 3, "max": 9}, "precision": "2%"}},
        {"stacks": [{**LAYERS_ONE, "optimization": ["none", "int8"]}]},
        {"goals": {"minimize": ["latency_ms"], "accuracy_drop_at_most": 0.1}},
    ):
        assert checker.is_valid({**good, **extra}), extra
    for extra in (
        {"dlas": 2},
        {"naem": "x"},
        {"layers": {"dataset": ["a"]}},
        {"layers": {**LAYERS, "modle": ["a"]}},
        {"layers": {**LAYERS, "model": [{"a": {}, "b": {}}]}},
        {"layers": {**LAYERS, "model": []}},
        {"design": "ful"},
        {"goals": {"minimize": ["speed"]}},
        {"measure": {"rounds": 0}},
        {"measure": {"rounds": {"min": 3}}},
    ):
        assert not checker.is_valid({**good, **extra}), extra


def test_loading_a_study_loads_nothing_heavy():
    code = (
        "import sys; import dlas.study.study; "
        "print(sorted({'torch', 'tvm', 'pandas', 'onnx', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- what the documentation says

DOCS = Path(__file__).parents[2] / "docs" / "study.md"


def test_every_key_is_documented():
    text = DOCS.read_text(encoding="utf-8")
    for key in form.StudyForm.model_fields:
        assert f"`{key}`" in text, key


# ---------------------------------------------------------------- screening designs


def test_pairwise_has_every_pair_that_the_rules_allow():
    wide = grid([1, 2, 3], [1, 2, 4], [0.5, 0.7, 0.9])
    rule = "hardware.threads < 4 or model.width == 1"
    every = study(wide, where=rule)
    few = study(wide, design={"pairwise": {}}, where=rule)
    assert {s.cell for s in few.stacks} < {s.cell for s in every.stacks}

    def pairs(made):
        columns = [
            {"model": s.text("model"), "hardware": s.text("hardware"), **s.sublayers}
            for s in made.stacks
        ]
        return {pair for each in columns for pair in itertools.combinations(each.items(), 2)}

    assert pairs(few) == pairs(every)


def test_d_optimal_takes_as_many_as_asked_and_says_when_there_are_fewer():
    few = study(GRID, design={"d-optimal": {"n": 4, "effects": "pairs"}})
    assert len(few.stacks) == 4
    every = study(GRID, design={"d-optimal": {"n": 500}})
    assert {s.cell for s in every.stacks} == {s.cell for s in study(GRID).stacks}
    assert "500 were asked for" in every.notes[0]


def test_neighbours_are_those_around_a_cell():
    every = study(GRID).stacks
    of = every[0].cell
    near = study(GRID, design={"neighbours": {"of": of[:8], "changes": 1}}).stacks
    assert near[0].cell == of
    assert 1 < len(near) < len(every)
    with pytest.raises(UserError, match="no stacks of these layers begin with 'ffff'"):
        study(GRID, design={"neighbours": {"of": "ffff"}})


@pytest.mark.parametrize(
    ("design", "part"),
    [
        ({"pairwse": {}}, "Did you mean 'pairwise'"),
        ({"pairwise": {"sed": 1}}, "design.pairwise.sed: unknown key. Did you mean 'seed'"),
        ({"d-optimal": {"n": 1}}, "design.d-optimal.n: "),
        ({"d-optimal": {"n": 9, "effects": "triples"}}, "design.d-optimal.effects: "),
        ({"neighbours": {}}, "needs the key 'of'"),
    ],
)
def test_a_wrong_screening_design_is_refused(design, part):
    with pytest.raises(UserError) as caught:
        study(GRID, design=design)
    assert part in str(caught.value)


def test_a_limit_of_an_older_study_that_cannot_be_is_left_out_and_said() -> None:
    old = Goals(at_least=(("accuracy", 95.0), ("anything", 95.0)), at_most=(("macs", 1.0),))
    kept, said = form.within_limits(old)
    assert kept == Goals(at_least=(("anything", 95.0),), at_most=(("macs", 1.0),))
    (sentence,) = said
    assert sentence.startswith("goals.accuracy_at_least") and "0.95" in sentence


# ---------------------------------------------------------------- what a study is


def test_the_hash_of_a_study_is_that_of_its_stacks_settings_and_goals():
    data = {"name": "a", "layers": LAYERS | {"optimization": ["none", "int8"]}}
    one = Study.from_dict(data)
    assert len(one.hash) == 64
    other = {"name": "b", "layers": LAYERS | {"optimization": ["int8", "none"]}}
    assert Study.from_dict(other).hash == one.hash
    for changed in (
        {"measure": {"rounds": 7}},
        {"goals": {"minimize": ["latency_ms"]}},
        {"layers": LAYERS},
    ):
        assert Study.from_dict({**data, **changed}).hash != one.hash
