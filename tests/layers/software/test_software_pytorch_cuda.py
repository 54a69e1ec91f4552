"""PyTorch on a GPU; skipped where there is none."""

import numpy as np
import pytest

from dlas.core import registry
from fake_programs import FakeProgram, images, infer, reference, software

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="PyTorch sees no NVIDIA GPU here"
)


def built(folder, net="residual", precision="float32", **params):
    runtime, cuda = software("pytorch", **params), registry.make("hardware", "cuda")
    runtime.build(FakeProgram(net, precision), cuda, folder)
    return runtime.load(folder, cuda)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("net", ["residual", "vit"])
def test_float32_is_float32_there(net, layout, tmp_path):
    session = built(tmp_path, net, layout=layout)
    found = infer(session)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, reference(net), atol=1e-4)
    ran = session.observe(images()[:1])
    assert ran.precision == "float32"
    assert ran.kernels["cuda"]


def test_tf32_is_seen_where_it_was_asked_for(tmp_path):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no TF32")
    flags = {"cuda.matmul.allow_tf32": True, "cudnn.allow_tf32": True}
    session = built(tmp_path, "vit", options=flags)
    assert np.abs(infer(session) - reference("vit")).max() > 1e-4
    assert session.observe(images()[:1]).precision == "tf32"


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precisions_really_run(precision, tmp_path):
    session = built(tmp_path, "vit", precision)
    assert session.observe(images()[:1]).precision == precision


def test_the_gpu_describes_itself():
    cuda = registry.make("hardware", "cuda")
    assert cuda.missing() is None
    facts = cuda.describe()
    assert facts["name"] == torch.cuda.get_device_name(0) and facts["memory_bytes"] > 0
    assert cuda.target()["compute"] == facts["compute"]


def test_a_gpu_that_is_not_there_is_missing():
    index = torch.cuda.device_count()
    assert (
        f"there is no GPU {index}" in registry.make("hardware", "cuda", {"index": index}).missing()
    )
