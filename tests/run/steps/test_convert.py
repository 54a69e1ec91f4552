import shutil
import subprocess
import sys
import zipfile
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch

from dlas.core.errors import StepError, StorageError
from dlas.core.protocols import DataSpec, Network
from dlas.run.steps.convert import OPSET, load_exported, to_exported, to_onnx

SPEC = DataSpec(classes=10, channels=1, height=28, width=28, batch=2)


def vit():
    return timm.models.VisionTransformer(
        img_size=28, patch_size=4, in_chans=1, num_classes=10, embed_dim=32, depth=2, num_heads=4
    )


def resnet():
    return timm.create_model("resnet10t", in_chans=1, num_classes=10)


def mobilenet():
    return timm.create_model("mobilenetv2_035", in_chans=1, num_classes=10)


BUILDERS = {"vit": vit, "resnet": resnet, "mobilenet": mobilenet}


@cache
def made(name):
    torch.manual_seed(0)
    module = BUILDERS[name]()
    module.train()
    with torch.no_grad():  # norms with statistics that are not 0 and 1
        for _ in range(3):
            module(torch.randn(8, 1, 28, 28))
    return Network(SPEC, module.eval())


@pytest.fixture(scope="module")
def lower(tmp_path_factory):
    """Return a function that lowers a network once for all that is asked of its files."""

    @cache
    def once(name):
        network, folder = made(name), tmp_path_factory.mktemp("lowered")
        before = {k: v.clone() for k, v in network.module.state_dict().items()}
        to_onnx(network, folder / "m.onnx")
        to_exported(network, folder / "m.pt2")
        after = network.module.state_dict()
        assert all(torch.equal(v, after[k]) for k, v in before.items()), "the network was changed"
        assert all(p.requires_grad for p in network.module.parameters())
        return folder

    return once


@pytest.fixture(params=sorted(BUILDERS))
def name(request):
    return request.param


@pytest.fixture
def network(name):
    return made(name)


@pytest.fixture
def lowered(name, lower):
    return lower(name)


def images():
    return torch.randn(SPEC.shape, generator=torch.Generator().manual_seed(1))


def expected(network):
    with torch.no_grad():
        return network.module(images()).numpy()


def run_onnx(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images().numpy()})[0]


def test_onnx_computes_what_the_module_computes(network, lowered):
    np.testing.assert_allclose(
        run_onnx(lowered / "m.onnx"), expected(network), atol=1e-5, rtol=1e-5
    )


def test_onnx_is_self_contained_static_and_says_nothing_of_its_making(lowered):
    path = lowered / "m.onnx"
    assert sorted(p.name for p in lowered.iterdir()) == ["m.onnx", "m.pt2"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [2, 1, 28, 28]
    content = path.read_bytes()
    for trace in (b"site-packages", b".py", b"stack_trace", b"timm."):
        assert trace not in content


def test_exported_computes_what_the_module_computes(network, lowered):
    with torch.no_grad():
        got = load_exported(lowered / "m.pt2").module()(images()).numpy()
    np.testing.assert_allclose(got, expected(network), atol=1e-5, rtol=1e-5)
    content = (lowered / "m.pt2").read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


MAKE = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
from test_convert import made, to_exported, to_onnx
network = made("vit")
to_onnx(network, pathlib.Path(sys.argv[2]) / "other.onnx")
to_exported(network, pathlib.Path(sys.argv[2]) / "other.pt2")
"""


def test_same_network_same_bytes_in_any_process_and_under_any_name(lower, tmp_path, request):
    here = str(request.path.parent)
    subprocess.run([sys.executable, "-c", MAKE, here, tmp_path], check=True)
    for form in ("onnx", "pt2"):
        one, other = lower("vit") / f"m.{form}", tmp_path / f"other.{form}"
        assert one.read_bytes() == other.read_bytes()


@pytest.fixture
def vit_file(lower):
    return lower("vit") / "m.pt2"


def test_a_network_with_an_onnx_file_keeps_it(tmp_path):
    (tmp_path / "q.onnx").write_bytes(_tiny_onnx())
    network = Network(SPEC, None, tmp_path / "q.onnx", "int8")
    to_onnx(network, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "q.onnx").read_bytes()
    with pytest.raises(StepError, match="this int8 network is an ONNX file only"):
        to_exported(network, tmp_path / "out.pt2")


def _tiny_onnx():
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    return onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [value], [out])
    ).SerializeToString()


class Opens:
    """What a malicious pickle does: run something of the attacker's choice."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_an_archive_with_a_pickle_is_not_loaded(tmp_path, vit_file):
    proof = tmp_path / "executed"
    torch.save(Opens(proof), tmp_path / "evil.pt")
    evil = (tmp_path / "evil.pt").read_bytes()
    planted = tmp_path / "planted.pt2"
    with zipfile.ZipFile(vit_file) as good, zipfile.ZipFile(planted, "w") as bad:
        for name in good.namelist():
            is_sample = name.endswith("sample_inputs/model.pt")
            bad.writestr(name, evil if is_sample else good.read(name))
    # Without the check the planted code runs: the rule is needed.
    with pytest.raises(Exception):  # noqa: B017
        torch.export.load(planted)
    assert proof.exists()
    proof.unlink()
    with pytest.raises(StorageError, match="needs unpickling"):
        load_exported(planted)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["data/weights/model.pt", "data/aotinductor/m/x.so"])
def test_an_archive_with_more_than_a_program_is_not_loaded(tmp_path, vit_file, name):
    path = tmp_path / "m.pt2"
    shutil.copyfile(vit_file, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"archive/{name}", b"x")
    with pytest.raises(StorageError, match="is not expected there"):
        load_exported(path)


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "m.pt2").write_bytes(b"nothing of the kind")
    with pytest.raises(StorageError, match="not an exported program"):
        load_exported(tmp_path / "m.pt2")
