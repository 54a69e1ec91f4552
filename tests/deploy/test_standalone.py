"""What is copied into an exported folder does what dlas does itself."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.protocols import Software
from dlas.deploy import built_in
from dlas.deploy.shipping import class_names, deployment
from dlas.layers.dataset.shared import upright
from dlas.layers.dataset.shared.decoding import decode
from dlas.layers.dataset.shared.pixels import Preprocess
from dlas.testing import registered
from fake_programs import CPU, FakeProgram, images


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("onnxruntime", {}),
        ("onnxruntime", {"options": {"graph_optimization_level": "ORT_ENABLE_BASIC",
                                     "session.intra_op.allow_spinning": "0"}}),
        ("openvino", {}),
        ("ncnn", {"options": {"use_packing_layout": False}}),
        ("litert", {}),
        ("executorch", {}),
        ("pytorch", {}),
        ("pytorch", {"layout": "nhwc"}),
        ("pytorch int8", {"layout": "nhwc"}),
        ("tvm", {}),
    ],
)  # fmt: skip
def test_a_loader_gives_what_the_session_gives(
    name: str, params: dict[str, Any], tmp_path: Path
) -> None:
    name, _, narrow = name.partition(" ")
    if name == "litert":
        converter = os.environ.get("DLAS_TEST_LITERT_CONVERTER", "")
        if not converter and importlib.util.find_spec("litert_torch") is None:
            pytest.skip("litert-torch is not installed")
        params = {"converter": converter}
    software = registry.make("software", name, params)
    assert isinstance(software, Software)
    if absent := registry.missing(type(software)):
        pytest.skip(absent.reason)
    # PyTorch's artefact is the module itself, and that of `residual` has classes of dlas.
    net = "depthwise" if name == "pytorch" else "residual"
    software.build(FakeProgram(net, narrow or "float32"), CPU, _made(tmp_path))
    needs = deployment(software, tmp_path / "artefact")
    for place, data in needs.beside.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(data)
    source = importlib.util.find_spec(needs.loader)
    assert source is not None
    assert source.origin is not None
    (tmp_path / "runtime.py").write_text(Path(source.origin).read_text())
    np.save(tmp_path / "x.npy", np.stack(images()))
    code = (
        "import sys; sys.modules['dlas'] = None\n"
        "import json, numpy as np\nfrom pathlib import Path\nfrom runtime import load\n"
        f"run = load(Path('artefact'), json.loads({json.dumps(dict(needs.settings))!r}), 1)\n"
        "np.save('y.npy', np.concatenate([run(x[None]) for x in np.load('x.npy')]))\n"
        f"assert ('torch' in sys.modules) == ('torch' in {list(needs.distributions)!r})\n"
        "assert 'tvm' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    session = software.load(tmp_path / "artefact", CPU)
    expected = np.concatenate([session(x[None]) for x in images()])
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-5)


def _made(folder: Path) -> Path:
    (folder / "artefact").mkdir()
    return folder / "artefact"


def test_a_network_of_classes_of_dlas_is_refused_for_pytorch(tmp_path: Path) -> None:
    (tmp_path / "pytorch.json").write_text('{"precision": "float32"}')
    index = {"form": "module", "globals": ["dlas.layers.model.x.Net", "torch.nn.Linear"]}
    (tmp_path / "module.json").write_text(json.dumps(index))
    software = registry.make("software", "pytorch")
    with pytest.raises(UserError, match=r"classes of dlas \(dlas.layers.model.x.Net\)"):
        built_in.pytorch(software, tmp_path)  # type: ignore[arg-type]


def test_ncnn_is_exported_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)
    (tmp_path / "ncnn.json").write_text('{"precision": "bfloat16", "algorithm": {}}')
    software = registry.make("software", "ncnn", {"options": {"lightmode": False}})
    options = built_in.ncnn(software, tmp_path).settings["options"]  # type: ignore[arg-type]
    assert options["use_bf16_storage"] is True and options["lightmode"] is False  # type: ignore


def test_the_library_of_tvm_is_that_of_its_interpreter(tmp_path: Path) -> None:
    package = tmp_path / "site" / "tvm"
    (package / "lib").mkdir(parents=True)
    (package / "lib" / "libtvm_runtime.so").write_bytes(b"of the other environment")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {package}/__init__.py\n")
    python.chmod(0o755)
    software = registry.make("software", "tvm", {"python": str(python)})
    beside = built_in.tvm(software, tmp_path).beside  # type: ignore[arg-type]
    assert beside["kernel_loader/libtvm_runtime.so"] == b"of the other environment"
    python.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match=f"not installed for {python}"):
        built_in.tvm(software, tmp_path)  # type: ignore[arg-type]


def test_a_runtime_that_nobody_exports_is_told(tmp_path: Path) -> None:
    class Strange(Software):
        name = "strange"

    with registered(Strange), pytest.raises(UserError, match="strange cannot be exported"):
        deployment(Strange(), tmp_path)


# ---------------------------------------------------------------- preprocessing, labels


@pytest.fixture
def predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function from a preprocessing to the module `predict` of a folder that has it."""

    def made(asked: dict[str, Any]) -> Any:
        source = importlib.util.find_spec("dlas.deploy.standalone.predict")
        assert source is not None
        assert source.origin is not None
        (tmp_path / "predict.py").write_text(Path(source.origin).read_text())
        (tmp_path / "upright.py").write_text(Path(upright.__file__).read_text())
        monkeypatch.syspath_prepend(tmp_path)
        card = {"preprocessing": asked, "labels": ["cat"], "runtime": {"environment": {}}}
        (tmp_path / "stack.json").write_text(json.dumps(card))
        spec = importlib.util.spec_from_file_location("predict", tmp_path / "predict.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return made


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("resize", "how"), [(0, "bilinear"), (40, "bicubic"), (32, "bilinear")])
def test_an_image_becomes_the_same_input(
    predict: Any, tmp_path: Path, mode: str, channels: int, resize: int, how: str
) -> None:
    rng = np.random.default_rng(3)
    if mode == "I;16":
        picture = Image.fromarray(rng.integers(0, 65536, (37, 61), dtype=np.uint16))
    else:
        picture = Image.fromarray(rng.integers(0, 256, (37, 61, 3), dtype=np.uint8)).convert(mode)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save(tmp_path / "x.png", exif=turned)
    asked = {"size": 32, "resize": resize, "channels": channels, "interpolation": how,
             "mean": [0.4] * channels, "std": [0.3] * channels}  # fmt: skip
    ours = Preprocess(32, channels, (0.4,) * channels, (0.3,) * channels, resize, how)  # type: ignore[arg-type]
    expected = decode((tmp_path / "x.png").read_bytes(), "x", ours)
    found = predict(asked).preprocess(tmp_path / "x.png")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_labels_are_names_where_there_are_some(predict: Any) -> None:
    module = predict({})
    assert module.label(0) == "cat"
    assert module.label(7) == "7"


@pytest.mark.parametrize("layout", ["{split}/{name}", "{name}", "{name}/deep"])
def test_the_folders_of_images_name_their_classes(tmp_path: Path, layout: str) -> None:
    for name in ("pear", "apple"):
        for split in ("train", "test"):
            folder = tmp_path / layout.format(split=split, name=name)
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(5):
                Image.new("L", (8, 8), number).save(folder / f"{split}-{number}.png")
    made = registry.make("dataset", "image-folder", {"root": str(tmp_path), "size": 8})
    assert class_names(made) == ("apple", "pear")  # type: ignore[arg-type]


def test_names_of_the_data_sets_that_ship() -> None:
    assert class_names(registry.make("dataset", "digits"))[9] == "9"  # type: ignore[arg-type]
    names = class_names(registry.make("dataset", "fashion-mnist"))  # type: ignore[arg-type]
    assert len(names) == 10
    assert names[9] == "Ankle boot"


def test_the_metadata_of_parquet_files_name_classes(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    rows = [{"bytes": (tmp_path / "x.png").read_bytes(), "path": "x.png"}] * 20
    told = {"info": {"features": {"label": {"names": ["no", "yes"]}}}}
    table = pa.table({"image": rows, "label": [0, 1] * 10})
    for name, metadata in (("named", {"huggingface": json.dumps(told)}), ("plain", {})):
        folder = tmp_path / name
        folder.mkdir()
        pq.write_table(table.replace_schema_metadata(metadata), folder / "data.parquet")
        made = registry.make("dataset", "parquet", {"root": str(folder), "size": 8})
        assert class_names(made) == (("no", "yes") if metadata else ())  # type: ignore[arg-type]
