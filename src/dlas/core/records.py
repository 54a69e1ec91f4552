"""What a study asks of a measurement, and what is seen. Values only; the store keeps them.

Units stand in the names. None means: not measured (and a reason stands beside it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from dlas.core.keys import Json

SCHEMA_VERSION = 3
"""Version of the results: 1 = first; 2 adds the ceilings of the machine; 3 when a cell was taken
out of its study."""


class Status(StrEnum):
    """What became of a cell or of one of its steps."""

    COMPLETE = "complete"
    FAILED = "failed"
    IMPOSSIBLE = "impossible"
    UNAVAILABLE = "unavailable"
    PENDING = "pending"


class Stage(StrEnum):
    """Where a cell failed: the step it was in."""

    INPUTS = "inputs"
    PREPARE = "prepare"
    OPTIMIZE = "optimize"
    LOWER = "lower"
    REFERENCE = "reference"
    BUILD = "build"
    PROBE = "probe"
    EVALUATE = "evaluate"
    MEMORY = "memory"
    MEASURE = "measure"


class RoundRange(BaseModel):
    """How many rounds a cell gets: no fewer than ``min``, and no more than ``max``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    min: int = Field(ge=1, le=1000, description="rounds of each cell, at least")
    max: int = Field(ge=1, le=1000, description="rounds of each cell, at most")

    @model_validator(mode="after")
    def _in_order(self) -> RoundRange:
        if self.min > self.max:
            raise PydanticCustomError(
                "rounds", f"min must be no more than max, {self.min} is more than {self.max}"
            )
        return self


def _rounds(value: object) -> object:
    """Read a number as exactly so many rounds."""
    if isinstance(value, RoundRange | Mapping):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise PydanticCustomError("rounds", "must be a valid integer, or {min: 3, max: 12}")
    if not 1 <= value <= 1000:
        raise PydanticCustomError(
            "rounds", "must be greater than or equal to 1 and no more than 1000"
        )
    return {"min": value, "max": value}


def _share(value: object) -> object:
    """Read ``3%`` as 0.03."""
    if not isinstance(value, str):
        return value
    try:
        return float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        raise PydanticCustomError("share", "must be a share like 0.03 or 3%") from None


class MeasureSettings(BaseModel):
    """How each cell is measured: the ``measure:`` block of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    rounds: Annotated[
        RoundRange,
        BeforeValidator(
            _rounds, json_schema_input_type=Annotated[int, Field(ge=1, le=1000)] | RoundRange
        ),
    ] = Field(
        RoundRange(min=4, max=10),
        description="how often each cell is measured: a number, or {min, max} with `precision`",
    )
    precision: Annotated[float, BeforeValidator(_share, json_schema_input_type=float | str)] = (
        Field(
            0.03,
            gt=0,
            lt=1,
            description="between min and max rounds a cell is measured until the interval of its "
            "undisturbed latency is no wider than plus or minus this share of it",
        )
    )
    min_runs: int = Field(20, ge=1, description="timed inferences a round, at least")
    min_seconds: float = Field(0.05, ge=0, description="timed seconds a round, at least")
    accuracy_samples: int = Field(1000, ge=0, description="test images evaluated per artefact")
    warmup_runs: int = Field(10, ge=1, description="untimed inferences before, at least")
    warmup_seconds: float = Field(0.1, ge=0, description="untimed seconds before, at least")
    warmup_max_seconds: float = Field(2.0, ge=0, description="after this a round is unsteady")
    controls: float = Field(0.1, ge=0, le=1, description="share of cells measured twice (A/A)")
    min_controls: int = Field(12, ge=0, description="cells measured twice, at least")
    memory: bool = Field(True, description="measure memory in a process of its own")
    energy: bool = Field(True, description="read energy counters where there are any")
    ceilings: bool = Field(True, description="measure what the machine can do at most")
    seed: int = Field(0, ge=0, description="seed of the order within each round")
    step_timeout_s: float = Field(1800, gt=0, description="limit of one step before measuring")
    measure_timeout_s: float = Field(120, gt=0, description="limit of one measurement")
    memory_limit_mb: int = Field(8192, ge=64, description="limit of one process's data")


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement of one cell in one round: raw samples and how the process fared."""

    samples_s: tuple[float, ...]
    warmup_runs: int
    warmup_s: float
    steady: bool
    import_s: float
    load_s: float
    first_inference_s: float
    launch: str
    """``fork``, or ``exec`` after a hang under fork."""
    cpu_s: float | None = None
    """CPU time of the process over the timed region, user and system."""
    wall_s: float | None = None
    steal_share: float | None = None
    involuntary_switches: int | None = None
    cpus: tuple[int, ...] = ()
    """Processors the process was allowed to run on, read back after the run."""
    threads_seen: int | None = None
    """Operating-system threads of the process, read back after the run."""
    energy_j: float | None = None
    energy_source: str = ""
    child_s: float = 0.0
    """Seconds of load, warm-up and timed runs, to be taken off the overhead."""
    flags: tuple[str, ...] = ()
    """Why to be wary: ``unsteady``, ``steal``, ``stopped``, ``repeated``, ``drift``."""

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Round:
        """Rebuild from :meth:`to_json`."""
        tuples = {k: tuple(data[k]) for k in ("samples_s", "cpus", "flags") if k in data}
        return cls(**{**data, **tuples})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one step run in a child: a value, or where and why it failed.

    ``transient`` marks what is retried once: a signal, a timeout, an out-of-memory.
    """

    status: Status
    value: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    log: str = ""
    seconds: float = 0.0
    transient: bool = False

    @property
    def ok(self) -> bool:
        """Whether the step yielded its value."""
        return self.status is Status.COMPLETE
