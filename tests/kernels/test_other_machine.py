"""What is built for another machine: described and saved here, refused by name where it runs."""

import platform
import shutil
from pathlib import Path

import pytest

from kernel_checks import random

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from dlas.kernels import Conv2d, MissingFeatureError, build_conv2d, compile_model, load  # noqa: E402

LINKER = "aarch64-linux-gnu-gcc"
pytestmark = [
    pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine is aarch64"),
    pytest.mark.skipif(shutil.which(LINKER) is None, reason=f"not installed: {LINKER}"),
]


def test_a_network_for_another_machine_is_saved_and_refused_where_it_cannot_run(
    tmp_path: Path,
) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
    exported = torch.export.export(net, (torch.zeros(1, 3, 8, 8),))
    program = compile_model(exported, "best-by-rule", threads=1, target="aarch64")
    assert program.describe()["target"]["machine"] == "aarch64"
    program.save(tmp_path)
    machine = (tmp_path / "kernels.so").read_bytes()[18:20]
    assert int.from_bytes(machine, "little") == 183  # ELF's number of AArch64
    with pytest.raises(MissingFeatureError, match="built for aarch64"):
        program.run(random((1, 3, 8, 8)))
    with pytest.raises(MissingFeatureError, match="built for aarch64"):
        load(tmp_path)


def test_a_convolution_for_another_machine_is_described() -> None:
    op = Conv2d(1, 4, 6, 6, 8, (3, 3))
    built = build_conv2d(op, random(op.weight_shape), target="aarch64")
    assert built.describe()["lanes"] == 4
    for call in (built, built.samples):
        with pytest.raises(MissingFeatureError, match="built for aarch64"):
            call(random(op.in_shape))
