"""What is known of a cell apart from its latency: a type for each kind of fact, and their JSON.

``to_json`` is what a row's ``value`` holds; ``from_json`` reads what any earlier dlas wrote: what
is not there has its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from dlas.core.keys import Json
from dlas.store.rows import HostRow, JsonObject, RoundRow


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
    OPTIONAL: ClassVar[tuple[str, ...]] = ("uncounted", "versions")

    params: int | None = None
    nonzero_params: int | None = None
    macs: int | None = None
    effective_macs: float | None = None
    uncounted: Sequence[str] | None = None
    """What multiplies in a way that is not counted: why there are no MACs."""
    weights_mb: float | None = None
    build_s: float | None = None
    artifact_mb: float | None = None
    facts: Json = None
    """What the software says of its artefact."""
    achieved: Sequence[Json] = ()
    """What each optimization came to."""
    weights: Json = None
    """Where the weights are from."""
    versions: Mapping[str, str] | None = None
    """The libraries of the software that built it, in the interpreter that did."""


@dataclass(frozen=True)
class Evaluated(Fact):
    """How outputs compare with the lowering reference, and the labels beside the baseline's."""

    KIND: ClassVar[str] = "evaluate"
    OPTIONAL: ClassVar[tuple[str, ...]] = (
        "baseline_labels", "baseline_correct", "accuracy_source",
    )  # fmt: skip

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
    accuracy_source: str | None = None
    """What counts as correct, or why nothing does."""


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


@dataclass(frozen=True)
class Timed(Fact):
    """A :class:`dlas.records.Round` as it is stored, its samples apart; None: it is not there."""

    KIND: ClassVar[str] = "round"

    warmup_runs: int | None = None
    warmup_s: float | None = None
    steady: bool = True
    import_s: float | None = None
    load_s: float | None = None
    first_inference_s: float | None = None
    launch: str = ""
    cpu_s: float | None = None
    wall_s: float | None = None
    steal_share: float | None = None
    involuntary_switches: int | None = None
    cpus: Sequence[int] = ()
    threads_seen: int | None = None
    energy_j: float | None = None
    energy_source: str = ""
    child_s: float | None = None
    flags: Sequence[str] = ()


def flagged(row: RoundRow, flag: str) -> RoundRow:
    """Return a round with one flag more; one that failed has no other value."""
    flags = [*Timed.from_json(row.value).flags, flag]
    return replace(row, value={**row.value, "flags": flags})


@dataclass(frozen=True)
class Machine(Fact):
    """One of the machines of a kind, all of which are one host; which of them ran when."""

    KIND: ClassVar[str] = "machines"

    name: str = ""
    sessions: Sequence[str] = ()


def machines_of(row: HostRow) -> dict[str, Machine]:
    """Return a host's machines by what tells them apart; what is no machine is left out."""
    said = row.description.get(Machine.KIND)
    told = said.items() if isinstance(said, dict) else ()
    return {name: Machine.from_json(each) for name, each in told if isinstance(each, dict)}


def with_machines(row: HostRow, machines: Mapping[str, Machine]) -> HostRow:
    """Return a host's row with these machines."""
    if not machines:
        return row
    told = {name: machine.to_json() for name, machine in machines.items()}
    return replace(row, description={**row.description, Machine.KIND: told})
