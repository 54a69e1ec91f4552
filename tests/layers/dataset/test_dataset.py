"""The contract of every data set, and what is particular to each."""

import gzip
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.protocols import Dataset
from dlas.layers.dataset import digits, fashion_mnist
from dlas.layers.dataset.shared.pixels import held_out
from dlas.testing import contract

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def make(name: str, **params: object) -> Dataset:
    made = registry.make("dataset", name, params)
    assert isinstance(made, Dataset)
    return made


def picture(seed: int, size: tuple[int, int] = (20, 16), mode: str = "RGB") -> bytes:
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_folder(
    root: Path, splits: dict[str, int], classes: tuple[str, ...] = ("a", "b")
) -> Path:
    for s, (split, count) in enumerate(splits.items()):
        for c, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.png").write_bytes(picture(100 * s + 10 * c + i))
    return root


def write_parquet(
    path: Path, labels: list[int], metadata: dict[str, object] | None = None
) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    first = 0 if "train" in path.name else 500
    images = [{"bytes": picture(first + i), "path": f"{i}.png"} for i in range(len(labels))]
    table = pa.table({"image": images, "label": labels})
    if metadata:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder"), {"train": 4, "test": 2})


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    write_parquet(root / "train-00000-of-00001.parquet", [0, 1, 2, 0, 1, 2, 0])
    write_parquet(root / "test-00000-of-00001.parquet", [2, 1, 0, 0])
    return root


CASES = ["fashion-mnist", "fashion-mnist-32", "digits", "image-folder", "parquet"]


@pytest.fixture(params=CASES)
def dataset(request: pytest.FixtureRequest, folder: Path, tables: Path) -> Dataset:
    return {
        "fashion-mnist": lambda: make("fashion-mnist"),
        "fashion-mnist-32": lambda: make("fashion-mnist", size=32, batch=2),
        "digits": lambda: make("digits"),
        "image-folder": lambda: make("image-folder", root=str(folder), size=12),
        "parquet": lambda: make("parquet", root=str(tables), size=12, channels=1),
    }[request.param]()


class TestContract:
    def test_it_keeps_it(self, dataset: Dataset) -> None:
        for check in contract("dataset", dataset.name, **registry.choice(dataset).params):
            check()

    def test_every_class_has_images(self, dataset: Dataset) -> None:
        for split in ("train", "test"):
            labels = dataset.load(split).labels
            assert set(np.unique(labels)) == set(range(dataset.spec().classes))


class TestFashionMnist:
    def test_shipped_sizes_and_balance(self) -> None:
        for split in ("train", "test"):
            labels = make("fashion-mnist").load(split).labels
            assert np.bincount(labels).tolist() == [1000] * 10

    def test_pixels_are_normalized(self) -> None:
        samples = make("fashion-mnist").load("train")
        images = samples.images(range(10_000))
        assert abs(images.mean()) < 0.01
        assert abs(images.std() - 1) < 0.01

    def test_licence_lies_beside_the_images(self) -> None:
        assert "Zalando" in (fashion_mnist.SHIPPED / "LICENSE").read_text()
        size = sum(f.stat().st_size for f in fashion_mnist.SHIPPED.iterdir())
        assert size < 9.5e6

    @pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not here")
    def test_shipped_is_what_zalando_published(self) -> None:
        full = make("fashion-mnist", train="full").load("train")
        shipped = make("fashion-mnist").load("train")
        assert len(full.labels) == 60_000
        where = {name: i for i, name in enumerate(full.ids)}
        places = [where[name] for name in shipped.ids]
        np.testing.assert_array_equal(full.labels[places], shipped.labels)
        np.testing.assert_array_equal(
            full.images(places[::50]), shipped.images(range(0, 10_000, 50))
        )
        assert full.content != shipped.content
        pixels, labels = fashion_mnist.read_idx_pair(DEBIAN, "t10k")
        test = make("fashion-mnist").load("test")
        np.testing.assert_array_equal(test.pixels, pixels)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(test.labels, labels)

    def test_the_choice_of_training_images_enters_the_fingerprint(self, tmp_path: Path) -> None:
        write_idx(tmp_path / "FashionMNIST" / "raw", 12)
        full = make("fashion-mnist", train="full", root=str(tmp_path))
        assert len(full.load("train").labels) == 12
        assert full.fingerprint() != make("fashion-mnist").fingerprint()
        assert full.fingerprint()[0] == make("fashion-mnist").fingerprint()[0]

    def test_packed_and_unpacked_files_are_read(self, tmp_path: Path) -> None:
        write_idx(tmp_path, 5, packed=True)
        assert len(make("fashion-mnist", train="auto", root=str(tmp_path)).load("train").ids) == 5

    def test_without_the_files_full_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        full = make("fashion-mnist", train="full", root=str(tmp_path))
        with pytest.raises(UserError, match="dataset-fashion-mnist"):
            full.load("train")
        refusal = full.why_not(None)  # type: ignore[arg-type]
        assert refusal is not None
        assert refusal.status == "unavailable"
        assert make("fashion-mnist").why_not(None) is None  # type: ignore[arg-type]

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        write_idx(tmp_path, 5, packed=True)
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bnot gzip")
        with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz is damaged"):
            make("fashion-mnist", train="full", root=str(tmp_path)).load("train")


def write_idx(folder: Path, count: int, packed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for stem, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        data = head + array.tobytes()
        name = f"train-{stem}-ubyte" + (".gz" if packed else "")
        (folder / name).write_bytes(gzip.compress(data) if packed else data)


class TestDigits:
    def test_the_table_is_what_scikit_learn_reads(self) -> None:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        table = digits._table()
        assert np.array_equal(table[:, :-1], images) and np.array_equal(table[:, -1], labels)

    def test_a_fifth_of_each_class_is_the_test(self) -> None:
        train, test = (make("digits").load(s).labels for s in ("train", "test"))
        assert len(train) + len(test) == 1797
        share = np.bincount(test) / (np.bincount(train) + np.bincount(test))
        assert np.abs(share - 0.2).max() < 0.01


class TestHeldOut:
    def test_is_spaced_and_stratified(self) -> None:
        chosen = held_out(np.array([1, 0, 1, 0, 1, 0, 1, 0], dtype=np.int64), 0.5)
        assert chosen.tolist() == [False, False, True, True, False, False, True, True]

    def test_of_one_image_a_class_takes_the_share_of_the_whole(self) -> None:
        assert held_out(np.arange(1000, dtype=np.int64), 0.2).sum() == 200


class TestImageFolder:
    def test_values_equal_those_of_pil(self, folder: Path) -> None:
        samples = make("image-folder", root=str(folder), size=12, resize=14).load("test")
        with Image.open(folder / samples.ids[0]) as image:
            assert image.size == (20, 16)
            scaled = image.resize((18, 14), Image.Resampling.BILINEAR).crop((3, 1, 15, 13))
        expected = np.asarray(scaled).transpose(2, 0, 1) / 255.0
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        expected = (expected - mean[:, None, None]) / std[:, None, None]
        np.testing.assert_allclose(samples.images([0])[0], expected, atol=1e-5)

    def test_val_serves_as_test(self, tmp_path: Path) -> None:
        root = write_folder(tmp_path, {"train": 2, "val": 1})
        assert list(make("image-folder", root=str(root)).load("test").ids) == [
            "val/a/0.png",
            "val/b/0.png",
        ]

    @pytest.mark.parametrize("split", ["train", ".", "val"])
    def test_one_folder_is_divided(self, tmp_path: Path, split: str) -> None:
        root = write_folder(tmp_path, {split: 5})
        data = make("image-folder", root=str(root), size=8, holdout=0.4)
        train, test = data.load("train"), data.load("test")
        assert np.bincount(train.labels).tolist() == [3, 3]
        assert np.bincount(test.labels).tolist() == [2, 2]
        assert not set(train.ids) & set(test.ids)

    def test_a_changed_image_changes_the_content(self, tmp_path: Path) -> None:
        root = write_folder(tmp_path, {"train": 2, "test": 2})
        data = make("image-folder", root=str(root), size=8)
        before = data.fingerprint(), data.load("train").content, data.load("test").content
        (root / "test" / "a" / "0.png").write_bytes(picture(999))
        after = data.fingerprint(), data.load("train").content, data.load("test").content
        assert after[0] != before[0]
        assert after[1] == before[1]
        assert after[2] != before[2]

    def test_moving_the_folder_changes_nothing(self, tmp_path: Path) -> None:
        root = write_folder(tmp_path / "here", {"train": 2, "test": 2})
        one = make("image-folder", root=str(root)).fingerprint()
        root.rename(tmp_path / "there")
        assert make("image-folder", root=str(tmp_path / "there")).fingerprint() == one

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda r: "", "root is empty"),
            (lambda r: str(r / "no"), "does not exist.*train/<class>"),
            (lambda r: str(r / "train" / "a" / "0.png"), "is a file"),
            (lambda r: str(r / "train" / "a"), "0 class folders"),
        ],
    )
    def test_bad_roots_say_what_to_do(self, folder: Path, spoil, message: str) -> None:
        with pytest.raises(UserError, match=message):
            make("image-folder", root=spoil(folder)).load("test")

    def test_a_class_only_in_test_is_refused(self, tmp_path: Path) -> None:
        root = write_folder(tmp_path, {"train": 1, "test": 1})
        (root / "test" / "strange").mkdir()
        with pytest.raises(UserError, match="strange"):
            make("image-folder", root=str(root)).load("test")

    def test_a_broken_image_is_named(self, tmp_path: Path) -> None:
        root = write_folder(tmp_path, {"train": 1, "test": 1})
        (root / "test" / "a" / "0.png").write_bytes(b"no image")
        with pytest.raises(UserError, match=r"test/a/0\.png cannot be decoded"):
            make("image-folder", root=str(root)).load("test").images([0])

    def test_contradicting_parameters_are_reported_together(self) -> None:
        with pytest.raises(UserError) as caught:
            make("image-folder", root=".", size=32, resize=16, mean=[0.5], std=[0.1, 0.0, 1.0])
        assert [re.split(r"[.:]", p)[1] for p in caught.value.problems] == [
            "mean",
            "std",
            "resize",
        ]


class TestParquet:
    def test_splits_come_from_file_names(self, tables: Path) -> None:
        data = make("parquet", root=str(tables), size=8)
        assert data.load("train").labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
        assert data.load("test").labels.tolist() == [2, 1, 0, 0]
        assert data.load("test").ids[1] == "test-00000-of-00001/000001"

    def test_images_are_the_rows(self, tables: Path) -> None:
        samples = make("parquet", root=str(tables), size=16).load("train")
        for row in (6, 0, 4):
            with Image.open(io.BytesIO(picture(row))) as image:
                expected = np.asarray(image.crop((2, 0, 18, 16))).transpose(2, 0, 1) / 255.0
            got = samples.images([row])[0] * 0.225 + 0.45
            assert np.abs(got - expected).max() < 0.06  # about ImageNet's mean and deviation

    def test_one_file_without_a_split_is_divided(self, tmp_path: Path) -> None:
        file = write_parquet(tmp_path / "all.parquet", [0, 1] * 5)
        data = make("parquet", root=str(file), size=8)
        train, test = data.load("train"), data.load("test")
        assert (len(train.ids), len(test.ids)) == (8, 2)
        assert not set(train.ids) & set(test.ids)

    def test_validation_serves_where_there_is_no_test(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "train-0.parquet", [0, 1])
        write_parquet(tmp_path / "validation-0.parquet", [1, 0, 1])
        assert make("parquet", root=str(tmp_path)).load("test").labels.tolist() == [1, 0, 1]

    def test_class_names_in_the_metadata_count(self, tmp_path: Path) -> None:
        names = {"info": {"features": {"label": {"names": ["a", "b", "c", "d"]}}}}
        write_parquet(tmp_path / "train-0.parquet", [0, 1], names)
        assert make("parquet", root=str(tmp_path)).spec().classes == 4

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"label": "lable"}, "no column 'lable'. Did you mean 'label'"),
            ({"image": "label"}, "holds int64; needed"),
            ({"label": "image"}, "not class indices"),
            ({"pattern": "*.pq"}, r"no file .* matches the pattern '\*\.pq'"),
            ({"classes": 2}, "label 2 occurs"),
        ],
    )
    def test_wrong_columns_say_what_there_is(
        self, tables: Path, params: dict[str, object], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            make("parquet", root=str(tables), **params).load("train")

    def test_hidden_labels_and_files_that_are_no_parquet(self, tmp_path: Path) -> None:
        hidden = write_parquet(tmp_path / "a.parquet", [-1, -1])
        with pytest.raises(UserError, match="hides its labels"):
            make("parquet", root=str(hidden)).load("test")
        (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
        with pytest.raises(UserError, match="cannot be read"):
            make("parquet", root=str(tmp_path / "b.parquet")).load("test")

    def test_no_row_group_is_read_before_an_image_is_asked_for(self, tables: Path) -> None:
        samples = make("parquet", root=str(tables)).load("train")
        held = samples.read.__closure__  # type: ignore[attr-defined]
        (loaded,) = (c.cell_contents for c in held if isinstance(c.cell_contents, list)
                     and hasattr(c.cell_contents[0], "groups"))  # fmt: skip
        assert [len(t.groups) for t in loaded] == [0]
        samples.images([4])
        assert [list(t.groups) for t in loaded] == [[1]]

    @pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
    def test_cifar10(self) -> None:
        data = make("parquet", root=str(SHARED), pattern="cifar10-*", size=32)
        assert data.spec().classes == 10
        train, test = data.load("train"), data.load("test")
        assert (len(train.ids), len(test.ids)) == (50_000, 10_000)
        assert test.images([0, 5000, 9999]).shape == (3, 3, 32, 32)

    @pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
    def test_imagenet_sample(self) -> None:
        root = str(SHARED / "imagenet-1k-sample.parquet")
        data = make("parquet", root=root, resize=256, size=224, interpolation="bicubic")
        assert data.spec().classes == 1000
        train, test = data.load("train"), data.load("test")
        assert (len(train.ids), len(test.ids)) == (800, 200)
        assert test.images([0, 199]).shape == (2, 3, 224, 224)
