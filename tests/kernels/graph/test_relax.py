"""What TVM's importer lacks, or reads wrongly, gives what PyTorch gives."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from dlas import kernels  # noqa: E402

MASK = torch.arange(256.0).reshape(4, 8, 8) / 99
OPERATORS = {
    "unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "shuffle": lambda x: F.pixel_shuffle(x, 2),
    "nearest by no whole factor": lambda x: F.interpolate(x, size=(5, 11), mode="nearest"),
    "mish": F.mish,
    "amax": lambda x: x.amax((2, 3)),
    "amin of all": lambda x: x.amin().reshape(1, 1),
    "adaptive max": lambda x: F.adaptive_max_pool2d(x, (2, 4)),
    "std": lambda x: x.std((2, 3)),
    "variance without correction": lambda x: x.var(1, correction=0, keepdim=True),
    "attention with a mask of each head": lambda x: F.scaled_dot_product_attention(
        x, x, x, attn_mask=MASK
    ),
    "attention without heads": lambda x: F.scaled_dot_product_attention(x[0], x[0], x[0]),
    "slices": lambda x: torch.cat([x[:, 1:3], x[:, ::2]], 1),
}


class Behind(nn.Module):
    def __init__(self, operator):
        super().__init__()
        self.operator, self.conv = operator, nn.Conv2d(4, 4, 3, padding="same")

    def forward(self, x):
        return self.operator(self.conv(x))


def exported(operator):
    torch.manual_seed(0)
    module, x = Behind(operator).eval(), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        return torch.export.export(module, (x,)), x.numpy(), module(x).numpy()


@pytest.mark.parametrize("name", OPERATORS)
def test_it_agrees_with_pytorch(name):
    program, x, expected = exported(OPERATORS[name])
    found = kernels.compile_model(program, {"*": "native"}, 1, "native", None).run(x)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_what_nobody_knows_is_named():
    program, _, _ = exported(lambda x: torch.fft.rfft2(x).abs())
    with pytest.raises(kernels.KernelError, match=r"importer does not know the operators .*fft"):
        kernels.compile_model(program, {"*": "native"}, 1, "native", None)
