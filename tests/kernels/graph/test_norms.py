"""Norms take the statistics that PyTorch takes, and those of stored numbers are folded away."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
from torch import nn  # noqa: E402

from dlas import kernels  # noqa: E402


class Rescaled(nn.BatchNorm2d):
    """A batch norm whose scale is computed, as some parametrizations have it."""

    def forward(self, x):
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight.exp(), self.bias, False, 0.1, 0.2
        )


NORMS = {
    "of the batch": (nn.BatchNorm2d(4, track_running_stats=False, eps=0.5), (3, 4, 6, 5)),
    "of one image": (nn.BatchNorm2d(4, track_running_stats=False, affine=False), (1, 4, 6, 5)),
    "of the batch, features": (nn.BatchNorm1d(4, track_running_stats=False), (8, 4)),
    "stored": (nn.BatchNorm2d(4, momentum=0.9), (2, 4, 6, 5)),
    "stored, not affine": (nn.BatchNorm2d(4, affine=False, eps=0.1), (1, 4, 6, 5)),
    "stored, features": (nn.BatchNorm1d(4), (3, 4)),
    "stored, sequence": (nn.BatchNorm1d(4, affine=False), (2, 4, 7)),
    "stored, volume": (nn.BatchNorm3d(4), (1, 4, 2, 3, 5)),
    "computed scale": (Rescaled(4), (1, 4, 6, 5)),
    "instance": (nn.InstanceNorm2d(4, eps=0.3), (2, 4, 6, 5)),
    "instance, affine": (nn.InstanceNorm1d(4, affine=True, eps=0.3), (2, 4, 6)),
    "instance, stored": (
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True), (2, 4, 6, 5),
    ),
}  # fmt: skip


def ready(module):
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 2.0 if "var" in name else 1.0)
    return module.eval()


def compiled(module, x):
    program = torch.export.export(module, (x,))
    return kernels.compile_model(program, {"*": "native"}, 1, "native", None)


@pytest.mark.parametrize("name", NORMS)
def test_it_takes_the_statistics_that_pytorch_takes(name):
    norm, shape = NORMS[name]
    module, x = nn.Sequential(nn.Tanh(), ready(norm), nn.Tanh()), torch.randn(shape)
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(compiled(module, x).run(x.numpy()), expected, atol=2e-5)


def test_only_the_norm_without_statistics_is_written_out():
    module = ready(
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU(),
            nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, eps=0.5),
        )
    )  # fmt: skip
    x = torch.randn(2, 3, 9, 9)
    program = compiled(module, x)
    kinds = [row["kind"] for row in program.describe()["operators"]]
    # Scale and shift of the one that is written out; those of the others are in their filters.
    assert (kinds.count("conv2d"), kinds.count("affine")) == (3, 1)
    assert kinds.count("sqrt") == 1
    with torch.no_grad():
        np.testing.assert_allclose(program.run(x.numpy()), module(x).numpy(), atol=1e-4)


def test_a_norm_of_an_onnx_file_has_its_own_epsilon():
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    norm, x = ready(nn.BatchNorm2d(3, eps=0.5)), torch.randn(1, 3, 5, 5)
    names = ("weight", "bias", "running_mean", "running_var")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    nodes = [
        helper.make_node("Tanh", ["x"], ["tanh"]),
        helper.make_node("BatchNormalization", ["tanh", *names], ["y"], epsilon=0.5),
    ]
    stored = [numpy_helper.from_array(norm.state_dict()[n].numpy(), n) for n in names]
    graph = helper.make_graph(nodes, "norm", ends[:1], ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    found = kernels.compile_model(model, {"*": "native"}, 1, "native", None).run(x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(found, norm(x.tanh()).numpy(), atol=2e-5)


def test_a_norm_in_training_mode_is_refused():
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).train()
    program = torch.export.export(module, (torch.randn(1, 4, 8, 8),))
    with pytest.raises(kernels.KernelError, match=r"in training mode.*model\.eval\(\)"):
        kernels.compile_model(program, {"*": "native"}, 1, "native", None)
