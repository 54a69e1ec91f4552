"""What steps took in an earlier run, and which of them a planned step is most like.

A pilot is an output folder of an earlier run on the same machine, of the same study or of a few of
its stacks. A step is expected to take what those steps of the pilot did that are most like it: of
the same stage, and alike at the layers that decide it, the weightiest of them first. Two choices
are the more alike the more parameters they share; where files lie tells nothing apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.records import Stage, Status
from dlas.core.stack import LAYERS, Choice, Stack
from dlas.store.artifacts import ArtifactStore
from dlas.store.facts import Rests, Timed
from dlas.store.results import FILE_NAME, CellRow, FactRow, ResultStore, RoundRow, SessionRow
from dlas.store.step_record import StepRecord

TIME: Mapping[Stage, tuple[str, ...]] = {
    Stage.INPUTS: ("dataset",),
    Stage.PREPARE: ("model", "dataset"),
    Stage.OPTIMIZE: ("optimization", "model", "dataset"),
    Stage.LOWER: ("model", "dataset", "optimization"),
    Stage.REFERENCE: ("model", "dataset", "optimization"),
    Stage.BUILD: ("software", "model", "dataset", "algorithm", "optimization"),
    Stage.EVALUATE: ("model", "dataset", "software", "algorithm", "optimization"),
    Stage.MEMORY: ("software", "model", "dataset", "algorithm", "optimization"),
    Stage.MEASURE: ("model", "dataset", "software", "algorithm", "optimization", "hardware"),
}
"""The layers that decide how long a step of a stage takes, the weightiest first."""
SIZE: Mapping[Stage, tuple[str, ...]] = {
    Stage.PREPARE: ("model", "dataset"),
    Stage.OPTIMIZE: ("optimization", "model", "dataset"),
    Stage.LOWER: ("optimization", "model", "dataset"),
    Stage.BUILD: ("software", "algorithm", "optimization", "model", "dataset"),
}
"""The layers that decide how large what it yields is, beside the network as it was prepared."""
SAME = 2.0
"""How alike a choice is to itself; another one of the same technique is from 1 on."""


@dataclass(frozen=True)
class Named:
    """A stack whose layers' texts are asked for often."""

    stack: Stack

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """The canonical text of each layer."""
        return {layer: self.stack.text(layer) for layer in LAYERS}


@dataclass(frozen=True, slots=True)
class Took:
    """What one step or measurement took, and of which stack it was."""

    of: Named
    seconds: float
    bytes: int = 0
    """Of what it yielded; 0: it is not known, or nothing."""
    network: int = 0
    """Bytes of the stack's network as it was prepared; 0: they are not known."""
    given: str = ""
    """The input whose files it yielded as they were, so that they are stored once; empty: none."""


@dataclass(frozen=True, slots=True)
class Yielded:
    """What steps like one yielded."""

    share: float
    """Their bytes for each of their networks' as these were prepared."""
    given: str
    """The input whose files they yielded as they were; empty: none, or not all of them."""


@dataclass(frozen=True)
class Pilot:
    """What steps took in an earlier run; empty: none was given."""

    took: Mapping[Stage, Sequence[Took]] = field(default_factory=dict)
    _alike: dict[tuple[str, str, str], float] = field(default_factory=dict, compare=False)

    def seconds(self, stage: Stage, of: Named) -> float | None:
        """Return the mean of what the most similar steps of a stage took; None: there is none."""
        found = self._most_alike(self.took.get(stage, ()), of, TIME[stage])
        return _mean(each.seconds for each in found)

    def yielded(self, stage: Stage, of: Named) -> Yielded | None:
        """Return what the most similar steps of a stage yielded; None: there is none."""
        known = [t for t in self.took.get(stage, ()) if t.bytes and t.network]
        found = self._most_alike(known, of, SIZE[stage])
        share, given = _mean(t.bytes / t.network for t in found), {t.given for t in found}
        return None if share is None else Yielded(share, given.pop() if len(given) == 1 else "")

    def network(self, of: Named) -> float | None:
        """Return the bytes of a stack's network as it was prepared there; None: it was not."""
        order = SIZE[Stage.PREPARE]
        known = [t for t in self.took.get(Stage.PREPARE, ()) if t.bytes]
        found = [t for t in known if all(self._like(x, t.of, of) == SAME for x in order)]
        return _mean(t.bytes for t in found)

    def _most_alike(
        self, known: Sequence[Took], of: Named, order: Sequence[str]
    ) -> Sequence[Took]:
        if not known:
            return ()
        alike = [tuple(self._like(layer, took.of, of) for layer in order) for took in known]
        best = max(alike)
        return [took for took, how in zip(known, alike, strict=True) if how == best]

    def _like(self, layer: str, one: Named, other: Named) -> float:
        texts = layer, one.texts[layer], other.texts[layer]
        if texts not in self._alike:
            self._alike[texts] = alike(layer, one.stack.layer(layer), other.stack.layer(layer))
        return self._alike[texts]


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def alike(layer: str, one: Sequence[Choice], other: Sequence[Choice]) -> float:
    """Return how alike two choices are: 2 the same, 0 of other techniques.

    Between, it is 1 and the share of parameters that are the same.
    """
    if [c.name for c in one] != [c.name for c in other]:
        return 0.0
    same = there = 0
    for a, b in zip(one, other, strict=True):
        names = {*a.params, *b.params} - registry.place_names(layer, a.name)
        there += len(names)
        same += sum(a.params[n] == b.params[n] for n in names & a.params.keys() & b.params.keys())
    return SAME if same == there else 1 + same / there


# ---------------------------------------------------------------- reading one


def read_pilot(folder: Path, min_seconds: float) -> Pilot:
    """Return what steps took in an output folder; ``min_seconds`` is what the plan measures for.

    Raises:
        UserError: there are no results in it.
        StorageError: they are damaged.
    """
    if not (folder / FILE_NAME).is_file():
        raise UserError(
            f"--pilot {str(folder)!r} holds no {FILE_NAME}: give the output folder of a run on "
            "this machine, of the same study or of some of its stacks."
        )
    with ResultStore(folder / FILE_NAME, read_only=True) as results:
        stacks = {c.cell: Named(Stack.from_json(c.stack)) for c in results.rows(CellRow)}
        facts = results.rows(FactRow, kind=Rests.KIND)
        rounds = results.rows(RoundRow, status=Status.COMPLETE)
        settings = {s.session: s.settings for s in results.rows(SessionRow)}
    rests = [(fact.cell, Rests.from_json(fact.value).keys) for fact in facts]
    took = _steps(folder / "store", stacks, rests)
    for row in rounds:
        seen, here = Timed.from_json(row.value), settings.get(row.session, {})
        if seen.child_s is not None:
            longer = min_seconds - float(here.get("min_seconds", min_seconds))
            seconds = seen.child_s + (row.overhead_s or 0.0) + longer
            took[Stage.MEASURE].append(Took(stacks[row.cell], max(0.0, seconds)))
    return Pilot(took)


def _steps(
    store: Path, stacks: Mapping[str, Named], rests: Sequence[tuple[str, Sequence[str]]]
) -> dict[Stage, list[Took]]:
    """Return what the steps of cells took, each step once, as one of its cells' stack."""
    took: dict[Stage, list[Took]] = defaultdict(list)
    records: dict[str, StepRecord] = {}
    if not rests or not store.is_dir():
        return took
    steps = ArtifactStore(store, create=False)
    cells: dict[str, str] = {}
    networks: dict[str, int] = {}
    for cell, keys in rests:
        for key in keys:
            cells.setdefault(key, cell)
            record = records.get(key) or steps.get(key)
            if record is None or record.status is not Status.COMPLETE:
                continue
            records[key] = record
            if record.stage == Stage.PREPARE:
                networks[cell] = record.stored_bytes
    for key, record in records.items():
        of, network = stacks[cells[key]], networks.get(cells[key], 0)
        needs = (record.needs or {}).items()
        given = next((name for name, content in needs if content == record.content), "")
        took[Stage(record.stage)].append(
            Took(of, record.seconds, record.stored_bytes, network, given)
        )
    return took
