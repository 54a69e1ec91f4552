"""Tuning: what is drawn, what is lost, what is kept, and that every setting computes the same."""

import json
import random as chance
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernel_checks import filters_of, pairwise, random, scales_of, worst_error
from kernel_shapes import SHAPES, name

pytest.importorskip("tvm")

from dlas.kernels import (
    BuiltConv2d,
    Conv2d,
    KernelError,
    UnsupportedError,
    build_conv2d,
    compile_model,
)
from dlas.kernels.code.emit import argument_shapes
from dlas.kernels.code.machine_code import KEEP_BUFFERS, compile_functions
from dlas.kernels.convolution.matrix import dense_linear, linear_op
from dlas.kernels.convolution.oracle import DIRECT_BOUND, WINOGRAD_BOUND
from dlas.kernels.convolution.primitives import find, plain_kernel
from dlas.kernels.ground import subprocesses
from dlas.kernels.ground.arrays import aligned_copy, tensor
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.program import load_library
from dlas.kernels.ground.records import FILE, Records
from dlas.kernels.ground.subprocesses import Answer, Workers
from dlas.kernels.ground.target import resolve
from dlas.kernels.tune.search import Search
from dlas.kernels.tune.tuner import Task, Tuner, Tuning

OP = Conv2d(1, 32, 14, 14, 32, (3, 3), padding=(1, 1, 1, 1))
ALL = [
    ("direct", "dense"), ("gemm", "dense"), ("spatial-pack", "dense"), ("winograd", "dense"),
    ("direct", "csr"), ("gemm", "csr"), ("spatial-pack", "csr"),
]  # fmt: skip
FEW = pairwise(SHAPES, 8)


def space(op: Conv2d = OP, primitive: str = "spatial-pack", weights: str = "dense") -> Any:
    cpu = resolve("native")
    return plain_kernel(op, primitive, weights, cpu, 1).space()


# ---------------------------------------------------------------- the settings


def check_settings(op: Conv2d, primitive: str, weights: str, target: str, count: int) -> None:
    """Build a few settings, drawn anew in every run, and compare with float64."""
    if find(primitive, weights).why_not(op):
        return
    cpu = resolve(target)
    found = plain_kernel(op, primitive, weights, cpu, 1).space()
    every = [FIXED] if found is None else found.settings  # some have no knobs
    for setting in chance.sample(every, min(count, len(every))):
        threads = chance.choice([1, 2])
        filters, bias = random(op.weight_shape), random((op.out_channels,))
        if weights == "csr":
            filters[np.random.default_rng().random(filters.shape) < 0.7] = 0
        kernel = plain_kernel(op, primitive, weights, cpu, threads, setting)
        built = BuiltConv2d(
            op, primitive, weights, cpu, threads, kernel, kernel, filters, bias
        )  # fmt: skip
        bound = WINOGRAD_BOUND if primitive == "winograd" else DIRECT_BOUND
        assert worst_error(built, filters, bias, None, residual=False) <= bound, setting


@pytest.mark.parametrize(("primitive", "weights"), ALL)
@pytest.mark.parametrize("turn", [3])
def test_any_setting_is_right_on_few_shapes(primitive: str, weights: str, turn: int) -> None:
    check_settings(OP if primitive == "winograd" else FEW[turn], primitive, weights, "native", 2)


@pytest.mark.kernels_full
@pytest.mark.parametrize(("primitive", "weights"), ALL)
@pytest.mark.parametrize("turn", range(len(SHAPES)), ids=lambda i: name(SHAPES[i]))
def test_any_setting_is_right(primitive: str, weights: str, turn: int) -> None:
    check_settings(SHAPES[turn], primitive, weights, ["native", "x86-64-v3"][turn % 2], 2)


@pytest.mark.parametrize(("primitive", "weights"), ALL)
def test_a_space_holds_the_fixed_setting_first_and_more_than_one(
    primitive: str, weights: str
) -> None:
    found = space(OP, primitive, weights)
    assert found.settings[0] == Knobs.of(found.fixed)
    assert len(set(found.settings)) == len(found.settings) > 10
    for setting in found.settings[1:20]:
        near = found.neighbours(setting)
        assert near and set(near) <= set(found.settings)
    cpu = resolve("native")
    fixed = plain_kernel(OP, primitive, weights, cpu, 1)
    same = plain_kernel(OP, primitive, weights, cpu, 1, found.settings[0])
    assert str(fixed.function("f")) == str(same.function("f"))


def test_a_setting_whose_buffers_tvm_shrinks_wrongly_is_built() -> None:
    import tvm

    op = Conv2d(1, 17, 9, 11, 33, (3, 3), padding=(1, 1, 1, 1))
    setting = Knobs.of({"band": 2, "channels": 6, "parts": 1, "rows": 13, "vectors": 1})
    weight, cpu = random(op.weight_shape), resolve("x86-64-v3")
    kernel = plain_kernel(op, "gemm", "dense", cpu, 1, setting)
    built = BuiltConv2d(op, "gemm", "dense", cpu, 1, kernel, kernel, weight, None)
    assert worst_error(built, weight, None, None, residual=False) <= DIRECT_BOUND
    context = tvm.transform.PassContext(opt_level=3, config=KEEP_BUFFERS)
    with pytest.raises(tvm.error.InternalError), context:
        tvm.compile(tvm.IRModule({"f": kernel.function("f")}), target=cpu.tvm())


def test_native_leaves_nothing_open() -> None:
    assert space(OP, "native") is None


# ---------------------------------------------------------------- the search


def test_a_search_starts_with_the_fixed_setting_and_repeats_nothing() -> None:
    drawn = drawn_by(Search(space(), trials=40, seed=3))
    assert drawn[0] == space().settings[0]
    assert len(drawn) == len(set(drawn)) == 40
    assert drawn_by(Search(space(), trials=40, seed=3)) == drawn
    assert drawn_by(Search(space(), trials=40, seed=4)) != drawn


def drawn_by(search: Search, columns: int = 5) -> list[Knobs]:
    """Return all that a search draws on a machine where so many columns are best."""
    drawn: list[Knobs] = []
    seconds: dict[Knobs, float] = {}
    while batch := search.draw(4, seconds):
        drawn += batch
        seconds |= {s: 1.0 + 0.01 * abs(s.get("columns", 0) - columns) for s in batch}
    return drawn


def test_few_trials_stay_near_the_fixed_setting_and_still_look_away() -> None:
    many = space()
    drawn = drawn_by(Search(many, trials=20, seed=0), many.settings[0].get("columns", 0))
    near = [s for s in drawn if s in many.neighbours(many.settings[0])]
    far = [s for s in drawn if len(set(s.pairs) - set(many.settings[0].pairs)) >= 3]
    assert near and far


def test_tiles_far_smaller_than_the_fixed_one_are_no_candidates() -> None:
    held = [s.get("rows", 0) * s.get("columns", 0) * s.get("blocks", 0) for s in space().settings]
    assert min(held) * 2 >= held[0] and max(held) <= 30


def test_settings_of_sparse_tiles_lead_to_different_blocks() -> None:
    found = space(OP, "spatial-pack", "csr").settings
    cpu = resolve("native")
    kernels = [plain_kernel(OP, "spatial-pack", "csr", cpu, 1, s) for s in found[1:]]
    blocks = [(k.grid, k.block, k.channels, k.parts) for k in kernels]
    assert len(set(blocks)) == len(blocks)


def test_a_search_ends_when_nothing_is_left() -> None:
    op = Conv2d(1, 16, 3, 3, 16, (1, 1))
    small = space(op)
    search = Search(small, trials=10_000, seed=0)
    drawn = search.draw(10_000, {})
    assert sorted(d.pairs for d in drawn) == sorted(s.pairs for s in small.settings)


# ---------------------------------------------------------------- one session on a machine we know


class Machine:
    """Workers whose kernels take the time that a function says: no child is started."""

    count = 2
    folder = Path("/nowhere")

    def __init__(
        self, seconds: Callable[[dict[str, int]], float], noise: float = 0.0,
        fault: Callable[[dict[str, int]], str | None] = lambda _: None,
        warm: Callable[[dict[str, int]], float] | None = None,
    ) -> None:  # fmt: skip
        self.seconds, self.noise, self.fault, self.warm = seconds, noise, fault, warm
        self._random = np.random.default_rng(0)

    def map(self, requests: list[dict[str, Any]], timeout_s: float) -> list[Answer]:
        return [self._built(r["knobs"]) for r in requests]

    def _built(self, knobs: dict[str, int]) -> Answer:
        reason = self.fault(knobs)
        return Answer({"shapes": []}) if reason is None else Answer(None, reason)

    def one(self, request: dict[str, Any], timeout_s: float) -> Answer:
        def readings(seconds: Callable[[dict[str, int]], float]) -> list[list[float]]:
            return [
                [seconds(c["knobs"]) * (1 + self.noise * self._random.standard_normal())
                 for _ in range(request["rounds"])]
                for c in request["candidates"]
            ]  # fmt: skip

        warm = readings(self.warm or self.seconds)
        return Answer({"seconds": readings(self.seconds), "warm": warm, "wrong": []})


def session(tmp_path: Path, machine: Machine, trials: int = 60) -> dict[str, Any]:
    tuning = Tuning("template", trials, 0, str(tmp_path))
    tuner = Tuner(tuning, resolve("native"), machine)  # type: ignore[arg-type]
    return tuner.best(Task(OP, "spatial-pack", "dense", 1, 1))


def test_a_faster_setting_is_found_and_kept(tmp_path: Path) -> None:
    def seconds(knobs: dict[str, int]) -> float:
        return 1.0 if not knobs else 0.6 + 0.02 * abs(knobs["columns"] - 5)

    record = session(tmp_path, Machine(seconds, noise=0.02))
    assert record["knobs"]["columns"] in (4, 5, 6) and record["gain"] == pytest.approx(1.6, 0.1)
    assert record["trials"] == 60 and record["lost"] == []


def test_noise_does_not_beat_the_fixed_schedule(tmp_path: Path) -> None:
    for seed in range(10):
        machine = Machine(lambda _: 1.0, noise=0.05)
        machine._random = np.random.default_rng(seed)
        record = session(tmp_path / str(seed), machine)
        assert record["knobs"] == {} and record["gain"] == 1.0


def test_what_loses_from_the_caches_or_from_beyond_them_does_not_win(tmp_path: Path) -> None:
    def faster(knobs: dict[str, int]) -> float:
        return 1.0 if not knobs else 0.6

    def slower(knobs: dict[str, int]) -> float:
        return 1.0 if not knobs else 1.1

    for turn, (cold, warm) in enumerate([(faster, slower), (slower, faster)]):
        record = session(tmp_path / str(turn), Machine(cold, warm=warm))
        assert record["knobs"] == {} and record["gain"] == 1.0
    record = session(tmp_path / "both", Machine(faster, warm=faster))
    assert record["knobs"] and record["gain"] == pytest.approx(1 / 0.6)


def test_lost_trials_are_counted_with_their_reasons(tmp_path: Path) -> None:
    def fault(knobs: dict[str, int]) -> str | None:
        return "crashed: ended by SIGSEGV" if knobs.get("columns", 0) > 6 else None

    record = session(tmp_path, Machine(lambda k: 1.0 if not k else 0.5, fault=fault))
    assert 0 < len(record["lost"]) < record["trials"] == 60
    assert {x["reason"] for x in record["lost"]} == {"build: crashed: ended by SIGSEGV"}
    assert 1 <= record["knobs"]["columns"] <= 6


def test_a_fixed_schedule_that_fails_is_an_error(tmp_path: Path) -> None:
    def fault(knobs: dict[str, int]) -> str | None:
        return None if knobs else "not done after 30 s"

    with pytest.raises(KernelError, match=r"cannot be measured: build: not done"):
        session(tmp_path, Machine(lambda k: 1.0, fault=fault))


# ---------------------------------------------------------------- records


def test_a_record_is_used_again(tmp_path: Path) -> None:
    first = session(tmp_path, Machine(lambda k: 1.0 if not k else 0.5))
    assert not first["reused"]
    again = session(tmp_path, Machine(lambda k: 1 / 0))
    assert again["reused"] and again["knobs"] == first["knobs"] and again["id"] == first["id"]
    assert len((tmp_path / FILE).read_text().splitlines()) == 1
    other = session(tmp_path, Machine(lambda k: 1.0), trials=61)
    assert not other["reused"]


ADD = """
import sys
from dlas.kernels.ground.records import Records
for n in range(int(sys.argv[2]), int(sys.argv[2]) + 50):
    Records(sys.argv[1]).add({"n": n}, {"text": "x" * 2000})
"""


def test_processes_write_side_by_side(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ADD, str(tmp_path)]
    children = [subprocess.Popen([*command, start]) for start in ("0", "50")]
    assert [child.wait() for child in children] == [0, 0]
    records = Records(tmp_path)
    assert all(records.find({"n": n}) for n in range(100))


def test_torn_and_foreign_lines_are_no_records(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add({"n": 1}, {})
    stored = json.loads((tmp_path / FILE).read_text())
    old = json.dumps(stored | {"version": "another", "key": {"n": 2}})
    with (tmp_path / FILE).open("a") as file:
        file.write("nonsense\n" + old + "\n" + '{"half a line')
    with pytest.warns(UserWarning, match="no record: skipped"):
        fresh = Records(tmp_path)
        assert fresh.find({"n": 1}) is not None
    assert fresh.find({"n": 2}) is None


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelError, match=r"cannot be written.*DLAS_TUNING_DIR"):
        Records(tmp_path / "file").add({}, {})


# ---------------------------------------------------------------- children


def test_a_child_that_fails_is_an_answer_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "fakes"))
    with Workers(2, "faulty_trial") as children:
        asked = [{"do": "misbehave", "say": n} for n in range(3)]
        assert [a.ok for a in children.map(asked, 60)] == [{"said": n} for n in range(3)]
        # The hang goes to a child that has started: a fresh one is given a minute more.
        faults = ["hang", "raise", "crash", "exit", None]
        answers = children.map([{"do": "misbehave", "say": 7, "fault": f} for f in faults], 3)
        assert [a.ok for a in answers] == [None, None, None, None, {"said": 7}]
        assert answers[0].error == "not done after 3 s"
        assert answers[1].error == "RuntimeError: LLVM said no"
        assert "SIGSEGV" in answers[2].error and "exit status 3" in answers[3].error
    assert not children._children


def test_children_hold_no_torch_and_time_out_only_after_their_start() -> None:
    assert subprocesses.START_S >= 30  # importing TVM on a busy machine
    with Workers(1) as children:
        answer = children.one({"do": "unknown"}, 1)
    assert answer.error == "KeyError: 'unknown'"


# ---------------------------------------------------------------- for real


def tuning(tmp_path: Path, trials: int = 4, **more: Any) -> dict[str, Any]:
    return {"scheduler": "template", "trials": trials, "records": str(tmp_path), **more}


@pytest.mark.parametrize(
    ("primitive", "weights"), [("winograd", "dense"), ("spatial-pack", "csr")]
)
def test_a_tuned_kernel_is_right_and_tells_its_record(
    primitive: str, weights: str, tmp_path: Path
) -> None:
    filters, bias = random(OP.weight_shape), random((32,))
    filters[np.random.default_rng().random(filters.shape) < 0.9] = 0
    options: dict[str, Any] = {"primitive": primitive, "weights": weights}
    built = build_conv2d(OP, filters, bias, tuning=tuning(tmp_path), **options)
    bound = WINOGRAD_BOUND if primitive == "winograd" else DIRECT_BOUND
    assert worst_error(built, filters, bias, None, residual=True) <= bound
    said = built.describe()["tuning"]
    assert said["trials"] == 4 and said["lost"] == 0 and not said["reused"]
    assert said["seconds"] > 0
    again = build_conv2d(OP, filters, bias, tuning=tuning(tmp_path), **options).describe()
    assert again["tuning"]["reused"] and again["tuning"]["record"] == said["record"]
    zeros = json.loads((tmp_path / FILE).read_text())["key"]["task"]["zeros"]
    assert zeros == (0.9 if weights == "csr" else 0.0)


@pytest.mark.parametrize("pattern", ["single zeros", "groups of four"])
def test_sparse_bytes_are_tuned_on_as_many_groups_as_there_are(
    pattern: str, tmp_path: Path
) -> None:
    """What is left out are fours of input channels: of single zeros at 90 % two thirds."""
    rng = np.random.default_rng()
    filters, bias = filters_of(OP)
    filters[filters == 0] = 1
    if pattern == "single zeros":
        filters[rng.random(filters.shape) < 0.9] = 0
    else:
        filters[(rng.random((32, 8, 3, 3)) < 0.9).repeat(4, 1)] = 0
    options: dict[str, Any] = {"primitive": "direct", "weights": "csr", "dtype": "int8"}
    built = build_conv2d(
        OP, filters, bias, quantization=scales_of(OP), tuning=tuning(tmp_path, 2), **options
    )
    assert built.describe()["tuning"]["lost"] == 0
    zeros = json.loads((tmp_path / FILE).read_text())["key"]["task"]["zeros"]
    fours = filters.reshape(len(filters), -1, 4, *filters.shape[2:])
    left_out = float(np.mean(~fours.any(axis=2)))
    assert (0.55 < left_out < 0.75) if pattern == "single zeros" else (left_out > 0.85)
    assert zeros == pytest.approx(left_out, abs=0.051)  # told in tenths


def test_each_type_has_records_of_its_own(tmp_path: Path) -> None:
    """The fastest setting changes with the type of numbers."""
    weight, bias = random(OP.weight_shape), random((OP.out_channels,))
    for dtype in ("float32", "float16", "bfloat16", "float32"):
        build_conv2d(OP, weight, bias, dtype=dtype, tuning=tuning(tmp_path, 2))
    filters, sums = filters_of(OP)
    build_conv2d(OP, filters, sums, dtype="int8", quantization=scales_of(OP),
                 tuning=tuning(tmp_path, 2))  # fmt: skip
    keys = [json.loads(line)["key"] for line in (tmp_path / FILE).read_text().splitlines()]
    assert [key["dtype"] for key in keys] == ["float32", "float16", "bfloat16", "int8"]


def test_a_tuned_model_is_right_and_equal_shapes_share_a_record(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    ).eval()  # fmt: skip
    x = torch.randn(1, 3, 12, 12)
    exported = torch.export.export(model, (x,))
    program = compile_model(exported, "winograd", tuning=tuning(tmp_path, 3))
    with torch.no_grad():
        np.testing.assert_allclose(program.run(x.numpy()), model(x).numpy(), atol=1e-4)
    said = [o["tuning"] for o in program.describe()["operators"] if o["kind"] == "conv2d"]
    assert len(said) == 3 and said[1]["record"] == said[2]["record"] != said[0]["record"]
    (linear,) = (o["tuning"] for o in program.describe()["operators"] if o["kind"] == "linear")
    assert linear["trials"] == 1 and linear["lost"] == 0  # one tile is all that there is
    assert len((tmp_path / FILE).read_text().splitlines()) == 3
    with pytest.raises(UnsupportedError, match="nothing to tune"):
        compile_model(exported, "native", tuning=tuning(tmp_path))


@pytest.mark.parametrize(("rows", "wide_in", "wide_out"), [(1, 64, 40), (37, 33, 50), (5, 96, 7)])
def test_every_setting_of_a_linear_layer_computes_the_same(
    rows: int, wide_in: int, wide_out: int
) -> None:
    cpu, op = resolve("native"), linear_op(rows, wide_in, wide_out)
    weight, bias, x = random((wide_out, wide_in)), random((wide_out,)), random((rows, wide_in))
    exact = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    empty = np.zeros((rows, wide_out), np.float32)
    settings = dense_linear(op, cpu, 2).space().settings
    for setting in chance.sample(settings, 4):
        kernel = dense_linear(op, cpu, 2, knobs=setting)
        constants = kernel.constants(weight.reshape(wide_out, wide_in, 1, 1), bias)
        arrays = [aligned_copy(a, a.shape) for a in (x, *constants, empty)]
        function = kernel.function("linear")
        shaped = zip(arrays, argument_shapes(function), strict=True)
        run = load_library(compile_functions({"linear": function}, cpu))["linear"]
        run(*(tensor(a.reshape(s)) for a, s in shaped))
        np.testing.assert_allclose(arrays[-1], exact, atol=1e-4, err_msg=str(setting))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"trials": 3}, "must be None or"),
        ({"scheduler": "template", "trials": 3, "rounds": 3}, "must be None or"),
        ({"scheduler": "annealing", "trials": 3}, "scheduler must be one of"),
        ({"scheduler": "template", "trials": 0}, "trials must be a whole number"),
    ],
)
def test_wrong_tuning_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        build_conv2d(OP, random(OP.weight_shape), tuning=wrong)
