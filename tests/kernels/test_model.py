"""Whole networks against PyTorch, and the artefact in a fresh process."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
from torch import nn  # noqa: E402

from dlas.kernels import (  # noqa: E402
    InputError,
    KernelError,
    MissingFeatureError,
    UnsupportedError,
    compile_model,
    load,
)


class Residual(nn.Module):
    """Two convolutions around a short cut; `down` halves the image."""

    def __init__(self, inside: int, outside: int, down: bool) -> None:
        super().__init__()
        stride = 2 if down else 1
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.short = nn.Conv2d(inside, outside, 1, stride) if down else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.short(x))


class Inverted(nn.Module):
    """Expand, depthwise, squeeze and excite, project."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * 3
        self.expand = nn.Sequential(nn.Conv2d(channels, wide, 1), nn.BatchNorm2d(wide), nn.SiLU())
        self.depth = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide)
        self.bn, self.act = nn.BatchNorm2d(wide), nn.ReLU6()
        self.squeeze, self.excite = nn.Conv2d(wide, 5, 1), nn.Conv2d(5, wide, 1)
        self.project = nn.Conv2d(wide, channels, 1)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.bn(self.depth(self.expand(x))))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = self.project(y * gate)
        return y + x if self.stride == 1 else y


class Dense(nn.Module):
    """Pre-activation layers whose outputs are concatenated; odd channel counts too."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, growth, 3, 1, 1)
        both = channels + growth
        self.norm2, self.conv2 = nn.BatchNorm2d(both), nn.Conv2d(both, growth, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([x, self.conv1(torch.relu(self.norm1(x)))], 1)
        y = torch.cat([y, self.conv2(torch.relu(self.norm2(y)))], 1)
        return nn.functional.avg_pool2d(y, 2)


class Attention(nn.Module):
    """A small vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 24, 7, 7)
        self.token = nn.Parameter(torch.randn(1, 1, 24))
        self.norm1, self.norm2 = nn.LayerNorm(24), nn.LayerNorm(24)
        self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24)
        self.up, self.down, self.head = nn.Linear(24, 50), nn.Linear(50, 24), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, 2, d // 2).permute(2, 0, 3, 1, 4)
        a = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(a.transpose(1, 2).reshape(n, t, d))
        x = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return self.head(x[:, 0])


def resnet(channels: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        Residual(16, 16, down=False), Residual(16, 40, down=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 10),
    )  # fmt: skip


def mobilenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, 2, 1), nn.ReLU6(), Inverted(12, 3, 1), Inverted(12, 5, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10),
    )  # fmt: skip


def densenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, 1, 2), nn.MaxPool2d(2, 2), Dense(16, 16), Dense(48, 7),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(62, 10),
    )  # fmt: skip


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(16, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(32, 64, 7), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": resnet, "mobilenet": mobilenet, "densenet": densenet, "vgg": vgg, "vit": Attention
}  # fmt: skip
TOLERANCE = 3e-5
"""Largest error allowed, relative to the largest output: some ten layers of float32 rounding."""


def ready(model: nn.Module) -> nn.Module:
    """Give batch norms statistics that matter, and stop training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def export(model: nn.Module, shape: tuple[int, ...] = (1, 1, 28, 28)) -> object:
    return torch.export.export(model, (torch.randn(*shape),))


def expected(model: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(copy.deepcopy(model).double()(torch.from_numpy(x).double()))


def error(y: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(y - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize(
    ("network", "algorithm"),
    [
        ("resnet", "spatial-pack"),
        ("mobilenet", "spatial-pack"),
        ("mobilenet", "native"),
        ("vit", "direct"),
    ],
)
def test_network_gives_what_pytorch_gives(network: str, algorithm: str) -> None:
    model = ready(NETWORKS[network]())
    program = compile_model(export(model), algorithm, threads=2)
    x = np.random.default_rng().standard_normal((1, 1, 28, 28)).astype(np.float32)
    exact = expected(model, x)
    for _ in range(2):  # a second run must not see what the first left in memory
        assert error(program.run(x), exact) < TOLERANCE
    ran = {r["primitive"] for r in program.describe()["operators"] if r["kind"] == "conv2d"}
    assert ran == {algorithm}


@pytest.mark.kernels_full
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("algorithm", ["spatial-pack", "direct", "gemm", "winograd", "native"])
@pytest.mark.parametrize("network", NETWORKS)
def test_network_by_every_algorithm(network: str, algorithm: str, target: str, batch: int) -> None:
    model = ready(NETWORKS[network]())
    program = compile_model(export(model, (batch, 1, 28, 28)), algorithm, target=target)
    x = np.random.default_rng().standard_normal((batch, 1, 28, 28)).astype(np.float32)
    allowed = 10 * TOLERANCE if algorithm == "winograd" else TOLERANCE
    assert error(program.run(x), expected(model, x)) < allowed


def test_algorithms_can_be_chosen_per_operator() -> None:
    model = ready(resnet())
    choice = {"*": "spatial-pack", "4.conv1": "gemm", "5.short": "native"}
    program = compile_model(export(model), choice)
    x = np.random.default_rng().standard_normal((1, 1, 28, 28)).astype(np.float32)
    assert error(program.run(x), expected(model, x)) < TOLERANCE
    ran = {r["operator"]: r["primitive"] for r in program.describe()["operators"] if "asked" in r}
    assert ran == {
        "0": "spatial-pack", "4.conv1": "gemm", "4.conv2": "spatial-pack",
        "5.conv1": "spatial-pack", "5.conv2": "spatial-pack", "5.short": "native",
    }  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"is called layer9; there are: .*4\.conv1"):
        compile_model(export(model), {"layer9": "gemm"})


@pytest.mark.parametrize("network", ["resnet", "vit"])
def test_pruned_network_with_csr_weights(network: str) -> None:
    model = ready(NETWORKS[network]())
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "short" not in name and "token" not in name:
            with torch.no_grad():
                parameter *= torch.rand_like(parameter) > 0.8
    program = compile_model(export(model), "gemm", weights="csr", csr_threshold=0.5)
    x = np.random.default_rng().standard_normal((1, 1, 28, 28)).astype(np.float32)
    assert error(program.run(x), expected(model, x)) < TOLERANCE
    stored = {
        r["operator"]: (r["weights"], r["zeros"] > 0.5)
        for r in program.describe()["operators"]
        if "weights" in r
    }
    assert all(weights == ("csr" if sparse else "dense") for weights, sparse in stored.values())
    assert "csr" in {weights for weights, _ in stored.values()}


def pruned(model: nn.Module, zeros: float) -> nn.Module:
    """Give the weights of convolutions and linear layers this share of zeros."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                module.weight *= torch.rand_like(module.weight) > zeros
    return model


def test_tiles_are_carried_between_sparse_convolutions() -> None:
    model = pruned(ready(resnet()), 0.8)
    program = compile_model(export(model), "spatial-pack", threads=2, weights="csr")
    x = np.random.default_rng().standard_normal((1, 1, 28, 28)).astype(np.float32)
    for _ in range(2):
        assert error(program.run(x), expected(model, x)) < TOLERANCE
    rows = {r["operator"]: r for r in program.describe()["operators"]}
    tiles = {n: r["input_layout"].split("+")[0] for n, r in rows.items() if "input_layout" in r}
    assert all("tiles of" in layout for layout in tiles.values())
    assert rows["4.conv1"]["output_layout"] == rows["4.conv2"]["input_layout"]
    changed = [n for n, r in rows.items() if r["kind"] == "relayout"]
    # Into tiles, out of them, and between two grids: nothing between the other convolutions.
    assert len(changed) < len(tiles)


@pytest.mark.kernels_full
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("algorithm", ["spatial-pack", "direct", "gemm", "mixed"])
@pytest.mark.parametrize("network", NETWORKS)
def test_sparse_network_by_every_algorithm(
    network: str, algorithm: str, target: str, batch: int
) -> None:
    model = pruned(ready(NETWORKS[network]()), 0.7)
    choice: object = algorithm
    if algorithm == "mixed":  # every other convolution is dense
        names = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
        dense = {"primitive": "spatial-pack", "weights": "dense"}
        choice = {"*": "spatial-pack", **dict.fromkeys(names[::2], dense)}
    program = compile_model(
        export(model, (batch, 1, 28, 28)), choice, target=target, weights="csr", threads=2
    )
    x = np.random.default_rng().standard_normal((batch, 1, 28, 28)).astype(np.float32)
    assert error(program.run(x), expected(model, x)) < TOLERANCE


def test_winograd_runs_where_it_can_and_says_where_not() -> None:
    model = ready(resnet())
    program = compile_model(export(model), "winograd")
    x = np.random.default_rng().standard_normal((1, 1, 28, 28)).astype(np.float32)
    assert error(program.run(x), expected(model, x)) < 10 * TOLERANCE
    rows = {r["operator"]: r for r in program.describe()["operators"] if r["kind"] == "conv2d"}
    assert {n for n, r in rows.items() if r["primitive"] == "winograd"} == {
        "0", "4.conv1", "4.conv2", "5.conv2"
    }  # fmt: skip
    assert rows["5.short"]["primitive"] == "spatial-pack"
    assert "3x3 kernel" in rows["5.short"]["fallback_reason"]


def test_dense_layers_stay_dense_and_say_why() -> None:
    program = compile_model(export(ready(resnet())), "direct", weights="csr")
    rows = [r for r in program.describe()["operators"] if "weights" in r]
    assert {r["weights"] for r in rows} == {"dense"}
    assert all("less than the threshold of 40%" in r["fallback_reason"] for r in rows)


class Growing(nn.Module):
    """Three layers, each of which reads all before it, as DenseNet writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(16 * (i + 1), 16, 1) for i in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x]
        for layer in self.layers:
            parts.append(torch.relu(layer(torch.cat(parts, 1))))
        return torch.cat(parts, 1)


def test_concatenations_build_on_one_another() -> None:
    model = Growing().eval()
    program = compile_model(export(model, (2, 16, 5, 5)), "best-by-rule")
    x = np.random.default_rng().standard_normal((2, 16, 5, 5)).astype(np.float32)
    assert error(program.run(x), expected(model, x)) < TOLERANCE
    concats = [s for s in program.plan["steps"] if s["record"]["kind"] == "concat"]
    assert [len(s["arguments"]) - 1 for s in concats] == [2, 2, 2]


class Prepared(nn.Module):
    """An operator that knows no layouts before a convolution of few channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.abs(x))


@pytest.mark.parametrize("algorithm", ["spatial-pack", "direct"])
def test_what_an_operator_without_layouts_writes_gets_its_halo(algorithm: str) -> None:
    model, x = Prepared().eval(), np.random.default_rng().standard_normal((1, 3, 9, 11))
    program = compile_model(export(model, x.shape), algorithm)
    assert error(program.run(x), expected(model, x.astype(np.float32))) < TOLERANCE


def test_layouts_are_carried_and_batch_norm_is_gone() -> None:
    program = compile_model(export(ready(resnet(3)), (1, 3, 28, 28)), "spatial-pack")
    kinds = [r["kind"] for r in program.describe()["operators"]]
    # The image gets its halo once; nothing is packed or unpacked after it.
    assert kinds.count("relayout") == 1 and kinds[0] == "relayout"
    assert set(kinds) == {"relayout", "conv2d", "max_pool", "global_pool", "linear"}


CHILD = """
import sys, json, numpy as np
from dlas.kernels import load
program = load(sys.argv[1], threads=int(sys.argv[3]))
y = program.run(np.load(sys.argv[2]))
np.save(sys.argv[4], y)
names = [m for m in ("torch", "tvm") if m in sys.modules]
print(json.dumps([names, program.describe()["threads"]]))
"""


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(16, 24, 3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24 * 5 * 6, 10),
    )  # fmt: skip


CSR = {"*": {"primitive": "spatial-pack", "weights": "csr"}}
SAVED = {
    "best-by-rule": (mobilenet, 0, "best-by-rule", (28, 28), None),
    "winograd": (small, 0, "winograd", (10, 12), {("winograd", "dense")}),
    "csr": (small, 0.9, CSR, (10, 12), {("spatial-pack", "csr")}),
}
"""Network, share of zeros, algorithm, image, and (primitive, weights) of its convolutions."""


@pytest.mark.parametrize("case", SAVED)
def test_saved_program_runs_alike_in_a_fresh_process(tmp_path: Path, case: str) -> None:
    network, zeros, algorithm, image, ran = SAVED[case]
    model, shape = pruned(ready(network()), zeros), (1, 1, *image)
    program = compile_model(export(model, shape), algorithm)
    x = np.random.default_rng().standard_normal(shape).astype(np.float32)
    y = program.run(x)
    assert error(y, expected(model, x)) < 10 * TOLERANCE
    rows = [r for r in program.describe()["operators"] if r["kind"] == "conv2d"]
    assert ran in (None, {(r["primitive"], r["weights"]) for r in rows})
    program.save(tmp_path / "artefact")
    np.save(tmp_path / "x.npy", x)
    for threads in (1, 2):
        arguments = ["artefact", "x.npy", str(threads), "y.npy"]
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout) == [[], threads]
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), y)


def test_code_for_another_cpu_is_refused(tmp_path: Path) -> None:
    compile_model(export(ready(vgg())), "best-by-rule").save(tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    plan["target"]["features"].append("avx1024")
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(MissingFeatureError, match="lacks avx1024"):
        load(tmp_path)
    plan["target"]["machine"] = "riscv64"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(MissingFeatureError, match="built for riscv64"):
        load(tmp_path)


def test_what_is_no_artefact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="no readable plan"):
        load(tmp_path)
    (tmp_path / "plan.json").write_text('{"format": 0}')
    with pytest.raises(KernelError, match="format 0"):
        load(tmp_path)
    compile_model(export(nn.Conv2d(1, 4, 3).eval()), "best-by-rule").save(tmp_path)
    with pytest.raises(UnsupportedError, match="threads must be a whole number >= 1, got 0"):
        load(tmp_path, threads=0)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(KernelError, match=r"incomplete: weights\.bin has \d+ of \d+ bytes"):
        load(tmp_path)


def test_inputs_that_do_not_fit_are_refused() -> None:
    program = compile_model(export(nn.Conv2d(1, 4, 3).eval()), "best-by-rule")
    with pytest.raises(InputError, match=r"must be float32 of shape \(1, 1, 28, 28\)"):
        program.run(np.zeros((1, 1, 27, 28), np.float32))
    with pytest.raises(InputError, match="got complex128 of shape"):
        program.run(np.zeros((1, 1, 28, 28), np.complex128))
    with pytest.raises(InputError, match="1 inputs, got 2"):
        program.run(np.zeros((1, 1, 28, 28)), np.zeros(1))
    assert program.describe()["ran_threads"] is None
    program.run(np.zeros((1, 1, 28, 28)))  # float64 is converted
    assert program.describe()["ran_threads"] == 1


def test_model_in_training_mode_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"eval\(\)"):
        compile_model(export(resnet().train()))


def test_profile_gives_raw_seconds_of_every_step() -> None:
    program = compile_model(export(ready(resnet())), "best-by-rule")
    rows = program.profile(np.zeros((1, 1, 28, 28), np.float32), repeats=3)
    assert [r["operator"] for r in rows] == [
        r["operator"] for r in program.describe()["operators"]
    ]
    assert all(len(r["seconds"]) == 3 and min(r["seconds"]) > 0 for r in rows)
