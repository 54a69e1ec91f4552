"""Images in Parquet files, in the layout of Hugging Face's datasets; local files only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from dlas.core.contents import Contents, split_read
from dlas.core.errors import UserError, listed, near
from dlas.core.keys import bytes_hash
from dlas.core.placeholders import instead_of
from dlas.core.protocols import SPLITS, Dataset, DataSpec
from dlas.layers.dataset.shared import (
    decoding,
    encoded,
    parquet_files,
    pixels,
    splits,
    tree,
    upright,
)
from dlas.layers.dataset.shared.encoded import (
    EncodedSamples,
    alike,
    existing,
    without_images,
)
from dlas.layers.dataset.shared.parquet_files import EXPECTED, ParquetFiles, find_files
from dlas.layers.dataset.shared.pixels import (
    Interpolation,
    content_of,
    held_out,
    preprocess,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dlas.core.protocols import Labels, Split

SOURCES = tuple(
    module.SOURCE for module in (decoding, encoded, parquet_files, pixels, splits, tree, upright)
)
CACHE_BYTES = 256 * 2**20  # encoded images kept of the row groups read last


@dataclass(frozen=True, kw_only=True)
class Parquet(Dataset):
    """Images in local Parquet files: a struct column of bytes and path, and a label column.

    A file belongs to the split that its name or a folder below ``root`` says
    (``train-00000-of-00003.parquet``, ``default/train/0000.parquet``, ``cifar10-Test.parquet``;
    ``eval``, ``validation`` or ``dev`` count as test where there is no ``test``). Where no file
    names one of the two splits, ``holdout`` of each class of the remaining files is the test
    split. ``pattern`` picks files below a root that holds several data sets. The number of
    classes is ``classes``; 0: as the file's metadata say, else the highest label plus one.
    """

    name: ClassVar[str] = "parquet"
    licence: ClassVar[str] = "the user's own images"
    requires: ClassVar[tuple[str, ...]] = ("pyarrow",)
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)
    sources: ClassVar[tuple[str, ...]] = SOURCES
    places: ClassVar[tuple[str, ...]] = ("root",)
    batch: Annotated[int, Field(ge=1)] = 1
    root: str
    pattern: str = "**/*.parquet"
    image: str = "image"
    label: str = "label"
    classes: Annotated[int, Field(ge=0)] = 0
    size: Annotated[int, Field(ge=4, le=4096)] = 224
    resize: Annotated[int, Field(ge=0, le=8192)] = 0
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: Interpolation = "bilinear"
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.2

    def __post_init__(self) -> None:
        preprocess(self)

    def spec(self) -> DataSpec:
        """Return the shape of the problem; reads the labels, not the images."""
        classes = self.classes or self._count_classes()
        return DataSpec(classes, self.channels, self.size, self.size, self.batch)

    def load(self, split: Split) -> EncodedSamples:
        """Return a split in the order of file names and rows.

        Raises:
            UserError: no files, no such column, or labels that are no class indices.
        """
        found = self._found()
        files = found.of(split)
        rows = self._rows(found, split)
        tables = [_Table(path, self.image) for path in files]
        ids = tuple(f"{found.names[files[t]]}/{row:06d}" for t, row in rows.places)

        def read(indices: Sequence[int]) -> list[bytes]:
            return [tables[t].encoded(row) for t, row in (rows.places[i] for i in indices)]

        named = tuple((f"{found.names[path]}{path.suffix}", path) for path in files)
        return EncodedSamples(read, rows.labels, ids, preprocess(self), named)

    def fingerprint(self) -> Any:
        """Return the hashes of the files, by name."""
        found = self._found()
        return [[f"{found.names[p]}{p.suffix}", content_of(p)] for p in found.every()]

    def contents(self) -> Contents:
        """Return the classes, the rows of each split and where they come from."""
        found = self._found()
        classes = self.spec().classes
        each = {split: self._rows(found, split) for split in SPLITS}
        train, test = (
            split_read(each[s].labels.tolist(), classes, self._where(found, s)) for s in SPLITS
        )
        hashes = (self._hashes(found, split) for split in SPLITS)
        names = _stated_names(found.every()[0], self.label)
        called = names or tuple(map(str, range(classes)))
        empty = without_images(called, each["train"].labels.tolist())
        one = () if classes > 1 else ("all labels are 0: one class says nothing of accuracy",)
        notes = (*found.notes, *one, *empty, *alike(*hashes))
        return Contents(classes, train, test, names, dict(found.skipped), notes)

    def _rows(self, found: ParquetFiles, split: Split) -> _SplitRows:
        """Return the rows of a split; files that serve both splits are divided."""
        files = found.of(split)
        labels = [self._labels(path) for path in files]
        known = np.concatenate(labels)
        classes = self.classes or self._count_classes()
        if known.max() >= classes:
            raise UserError(
                f"parquet.classes: {classes}, but label {known.max()} occurs in {self.root!r}: "
                f"give at least {known.max() + 1}, or 0 for as many as there are."
            )
        places = [(t, row) for t, own in enumerate(labels) for row in range(len(own))]
        chosen = np.arange(len(places))
        if found.shared:
            test = held_out(known, self.holdout)
            chosen = np.flatnonzero(test if split == "test" else ~test)
        if not len(chosen):
            raise UserError(
                f"parquet: {self.root!r} has too few rows ({len(places)}) to take {split} images "
                f"out of them by holdout {self.holdout:g}."
            )
        return _SplitRows([places[i] for i in chosen], known[chosen])

    def _hashes(self, found: ParquetFiles, split: Split) -> list[str]:
        """Return the hash of every image of a split."""
        tables = [_Table(path, self.image) for path in found.of(split)]
        return [bytes_hash(tables[t].encoded(row)) for t, row in self._rows(found, split).places]

    def _where(self, found: ParquetFiles, split: Split) -> str:
        files = listed([found.shown(path) for path in found.of(split)], 2)
        if not found.shared:
            return files
        share = self.holdout if split == "test" else 1 - self.holdout
        return f"{share:.4g} of each class of {files} (holdout)"

    def _found(self) -> ParquetFiles:
        """Return the files of each split."""
        root = existing(self.name, self.root, EXPECTED)
        try:
            return find_files(root, self.pattern)
        except (ValueError, NotImplementedError) as error:
            raise UserError(f"parquet.pattern: {self.pattern!r} is no pattern: {error}") from error

    def _count_classes(self) -> int:
        files = self._found().every()
        stated = {len(names) for path in files if (names := _stated_names(path, self.label))}
        if len(stated) > 1:
            raise UserError(
                f"parquet: the files of {self.root!r} state different numbers of classes, "
                f"{sorted(stated)}: pick files of one data set by pattern, or give classes."
            )
        return stated.pop() if stated else max(int(self._labels(f).max()) for f in files) + 1

    def _labels(self, path: Path) -> Labels:
        import pyarrow as pa

        table = _open(path)
        kind = _column(path, table, self.label).type
        if not pa.types.is_integer(kind):
            raise UserError(
                f"parquet.label: column {self.label!r} of {path.name} holds {kind}, "
                "not class indices (integers)."
            )
        column = table.read(columns=[self.label]).column(0)
        if not len(column) or column.null_count:
            raise UserError(f"parquet: {path.name} has no rows, or rows without a label.")
        labels: Labels = column.to_numpy().astype(np.int64)
        if labels.min() < 0:
            raise UserError(
                f"parquet: {path.name} hides its labels ({labels.min()}): take the file out of "
                "the folder, or leave it out by `pattern`; a validation split then is the test."
            )
        return labels


@dataclass(frozen=True)
class _SplitRows:
    """The rows of one split: the number of the file and of the row in it, and their labels."""

    places: list[tuple[int, int]]
    labels: Labels


@dataclass
class _Table:
    """The images of one file; the row groups read last stay in memory."""

    path: Path
    column: str
    groups: dict[int, Any] = field(default_factory=dict)
    starts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        import pyarrow as pa

        file = _open(self.path)
        kind = _column(self.path, file, self.column).type
        self.bytes_only = not pa.types.is_struct(kind)
        inner = kind if self.bytes_only else _member(kind, "bytes")
        if inner is None or not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
            raise UserError(
                f"parquet.image: column {self.column!r} of {self.path.name} holds {kind}; "
                "needed: encoded images, struct<bytes: binary, path: string> or binary."
            )
        rows = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        self.starts = np.concatenate([[0], np.cumsum(rows)])

    def encoded(self, row: int) -> bytes:
        """Return the encoded image of a row."""
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        images = self._group(group)
        data = images[row - int(self.starts[group])].as_py()
        if data is None:
            raise UserError(
                f"parquet: row {row} of {self.path.name} holds no bytes (a path to a file "
                "elsewhere is not followed)."
            )
        return bytes(data)

    def _group(self, group: int) -> Any:
        import pyarrow.compute as pc

        if group in self.groups:
            self.groups[group] = self.groups.pop(group)  # now the one used last
            return self.groups[group]
        column = _open(self.path).read_row_group(group, columns=[self.column]).column(0)
        self.groups[group] = column if self.bytes_only else pc.struct_field(column, "bytes")
        while len(self.groups) > 1 and sum(g.nbytes for g in self.groups.values()) > CACHE_BYTES:
            del self.groups[next(iter(self.groups))]
        return self.groups[group]


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        why = instead_of(path) or error
        raise UserError(f"parquet: {path} cannot be read: {why}. Give {EXPECTED}.") from error


def _column(path: Path, file: Any, name: str) -> Any:
    schema = file.schema_arrow
    if name not in schema.names:
        raise UserError(
            f"parquet: {path.name} has no column {name!r}.{near(name, schema.names)} "
            f"Columns: {', '.join(schema.names)}. Name it by `image:` or `label:`."
        )
    return schema.field(name)


def _member(struct: Any, name: str) -> Any:
    at = struct.get_field_index(name)
    return None if at < 0 else struct.field(at).type


def _stated_names(path: Path, label: str) -> tuple[str, ...]:
    """Return the names of classes in Hugging Face's metadata; empty: it says nothing."""
    metadata = _open(path).schema_arrow.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):  # other metadata: counted from the labels instead
        return ()
