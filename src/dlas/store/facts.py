"""What is known of a cell apart from its latency: a type for each kind of fact, and their JSON.

``to_json`` is what a row's ``value`` holds; ``from_json`` reads what any earlier dlas wrote: what
is not there has its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Self

from dlas.core.keys import Json
from dlas.core.records import Round
from dlas.store.rows import JsonObject, RoundRow


@dataclass(frozen=True)
class Fact:
    """What all kinds have in common."""

    KIND: ClassVar[str] = ""
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    """Fields that JSON leaves out where they are None."""

    def to_json(self) -> JsonObject:
        """Return a JSON form that :meth:`from_json` reads."""
        left_out = {name for name in self.OPTIONAL if getattr(self, name) is None}
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_json`; other keys are not looked at."""
        names = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in names and v is not None})


@dataclass(frozen=True)
class Built(Fact):
    """What was built: the network's counts, and the artefact made of it."""

    KIND: ClassVar[str] = "build"

    params: int | None = None
    nonzero_params: int | None = None
    macs: int | None = None
    effective_macs: float | None = None
    weights_mb: float | None = None
    build_s: float | None = None
    artifact_mb: float | None = None
    facts: Json = None
    """What the software says of its artefact."""
    achieved: Sequence[Json] = ()
    """What each optimization came to."""
    weights: Json = None
    """Where the weights are from."""


@dataclass(frozen=True)
class Evaluated(Fact):
    """How outputs compare with the lowering reference, and the labels beside the baseline's."""

    KIND: ClassVar[str] = "evaluate"
    OPTIONAL: ClassVar[tuple[str, ...]] = ("baseline_labels", "baseline_correct")

    images: int | None = None
    largest: float | None = None
    not_finite: int | None = None
    max_abs_error: float | None = None
    relative_error: float | None = None
    agreement: float | None = None
    margins: Sequence[float] | None = None
    labels: Sequence[int] = ()
    correct: Sequence[int] = ()
    n: int | None = None
    ids_hash: str | None = None
    """Of the evaluated samples."""
    baseline_labels: Sequence[int] | None = None
    baseline_correct: Sequence[int] | None = None


@dataclass(frozen=True)
class Memory(Fact):
    """What one process needed that loaded the artefact and ran it."""

    KIND: ClassVar[str] = "memory"
    OPTIONAL: ClassVar[tuple[str, ...]] = (
        "memory_mb", "import_rss_mb", "peak_rss_mb", "import_s", "load_s", "first_inference_s",
        "needs", "stored_bytes",
    )  # fmt: skip

    memory_mb: float | None = None
    import_rss_mb: float | None = None
    peak_rss_mb: float | None = None
    import_s: float | None = None
    load_s: float | None = None
    first_inference_s: float | None = None
    needs: Mapping[str, str | None] | None = None
    """The contents of what the step was given."""
    stored_bytes: int | None = None


@dataclass(frozen=True)
class Observed(Fact):
    """What ran (:class:`dlas.protocols.Ran`), and on which processors."""

    KIND: ClassVar[str] = "observe"

    precision: str | None = None
    threads: int | None = None
    isa: str | None = None
    kernels: Mapping[str, str] = field(default_factory=dict)
    fallbacks: Sequence[str] = ()
    sparsity: float | None = None
    cpus: Sequence[int] = ()


@dataclass(frozen=True)
class Rests(Fact):
    """The keys of all steps that a cell rests on: what ``clean`` keeps."""

    KIND: ClassVar[str] = "steps"

    keys: Sequence[str] = ()


def seen_in(row: RoundRow) -> Round:
    """Return what a complete round saw, its samples included."""
    names = {f.name for f in fields(Round)}
    given = {k: v for k, v in row.value.items() if k in names}
    return Round.from_json({**given, "samples_s": row.samples})
