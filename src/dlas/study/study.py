"""A study file becomes a study: its stacks, how they are measured, what is sought.

Everything that is wrong with a file is reported at once, each problem with its place. Parameters
keep what the user wrote, relative paths too: they are looked up from the study's folder
(:meth:`Study.inside`), so that a study is the same study on every machine.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path

from dlas.core import rules
from dlas.core.errors import UserError
from dlas.core.goals import Goals, parse_goals
from dlas.core.keys import key as key_of
from dlas.core.records import MeasureSettings
from dlas.core.stack import Stack
from dlas.study import choices, design
from dlas.study.form import (
    MAX_STACKS,
    DOptimalDesign,
    NeighboursDesign,
    NeighboursSize,
    PairwiseDesign,
    RandomDesign,
    StudyForm,
    read_form,
)
from dlas.study.source import Source, dump, parse, read, shown

Keep = Callable[[Stack], bool]
Screening = PairwiseDesign | DOptimalDesign | NeighboursDesign
MOST_RUN = 20_000
"""Among so many stacks a design that covers pairs is looked for."""
MOST_WEIGHED = 5_000
"""Among so many a D-optimal one is."""


@dataclass(frozen=True)
class Study:
    """The stacks to run, how they are measured, what is sought."""

    name: str
    path: Path | None
    folder: Path
    """Relative paths and the user's own modules are looked for here first."""
    stacks: tuple[Stack, ...]
    """What to run: designed, the rules applied, each once, in the order of the file."""
    measure: MeasureSettings
    goals: Goals
    text: str
    """The file as it was."""
    description: str = ""
    notes: tuple[str, ...] = field(default=())
    """What the user should know though nothing is wrong."""

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Return the study of a file.

        Raises:
            UserError: all problems of the file, each with its line, its place, the value, what is
                allowed and near names.
        """
        path = Path(path)
        source, text = read(path)
        return _study(source, text, path, path.resolve().parent)

    @classmethod
    def from_dict(cls, data: Mapping[str, object], folder: str | Path = ".") -> Study:
        """Return the study of the same keys as in a file; ``dlas: 1`` may be left out.

        Raises:
            UserError: all problems of the data.
        """
        data = {"dlas": 1, **data}
        try:
            plain = json.loads(json.dumps(data, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UserError(f"study: must be plain data (JSON): {error}") from error
        return _study(Source("study", plain), dump(plain), None, Path(folder).resolve())

    @property
    def hash(self) -> str:
        """What the study is: its stacks, how they are measured and what is sought, in any order.

        Claims about a study may name it, so that nobody fits the stacks to the claims.
        """
        stacks = sorted(stack.cell for stack in self.stacks)
        return key_of("study", stacks, self.measure.model_dump(mode="json"), asdict(self.goals))

    def copy(self) -> str:
        """Return the file with the folder that its relative paths are looked up from.

        Stored elsewhere it is the same study.
        """
        data = parse(self.text, self.name).data
        assert isinstance(data, Mapping), "a study was made of it"
        wanted = {**data, "folder": str(self.folder)}
        if data == wanted:
            return self.text
        longer = f"{self.text.rstrip()}\nfolder: {json.dumps(str(self.folder))}\n"
        with contextlib.suppress(UserError):  # it has a folder, is written in braces, ...
            source = parse(longer, self.name)
            source.check()
            if source.data == wanted:
                return longer
        return json.dumps(wanted, indent=1, ensure_ascii=False) + "\n"

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Work in the study's folder: relative paths in parameters then mean what they say."""
        with contextlib.chdir(self.folder):
            yield


def _study(source: Source, text: str, path: Path | None, folder: Path) -> Study:
    form = read_form(source)
    given = source.data if isinstance(source.data, Mapping) else {}
    found = _read_layers(source, given)
    listed = _read_stacks(source, given)
    filters = _read_rules(source, given, found, listed)
    base = choices.read_base(source, given.get("base"), found.factors)
    if form is not None and form.base is not None and form.design != "one-at-a-time":
        source.problem(
            ("base",),
            "is used by `design: one-at-a-time` only, got "
            f"design {shown(given.get('design', 'full'))}",
        )
    source.check()
    assert form is not None  # its problems were raised
    keep = _keep(source, filters)
    explicit = (s for factors in listed for s in design.full(factors) if keep(s))
    try:
        stacks = tuple(design.distinct(chain(explicit, _designed(form, found, base, keep))))
    except UserError as error:
        raise UserError(f"{source.name}: {error}") from None
    source.check()
    folder, missing = _folder(form, folder)
    notes = (*_notes(source, form, stacks), *missing)
    return Study(
        form.name, path, folder, stacks, form.measure, _goals(form), text,
        form.description, notes,
    )  # fmt: skip


def _goals(form: StudyForm) -> Goals:
    return parse_goals(form.goals.model_dump(exclude_none=True))


def _folder(form: StudyForm, beside: Path) -> tuple[Path, tuple[str, ...]]:
    """Return where relative paths start, and what to say if it is not where the file says.

    A study copied to another machine, as each output folder holds one, should still run.
    """
    if form.folder is None:
        return beside, ()
    wanted = beside / form.folder
    if wanted.is_dir():
        return wanted.resolve(), ()
    return beside, (f"folder: {form.folder} is not here; {beside} is taken instead",)


def _read_layers(source: Source, given: Mapping[str, object]) -> choices.Layers:
    if given.get("layers") is not None:
        return choices.read_layers(source, given["layers"])
    if given.get("stacks") is None and isinstance(source.data, Mapping):
        source.problem((), "needs the key 'layers' (choices at each layer) or 'stacks' (a list)")
    return choices.Layers()


def _read_stacks(source: Source, given: Mapping[str, object]) -> list[list[design.Factor]]:
    stacks = given.get("stacks")
    if stacks is None:
        return []
    if not isinstance(stacks, list) or not stacks:
        source.problem(("stacks",), f"must be a list of stacks, at least one, got {shown(stacks)}")
        return []
    return [choices.read_stack(source, s, ("stacks", at)) for at, s in enumerate(stacks)]


@dataclass(frozen=True)
class _Filter:
    rule: rules.Rule
    wanted: bool
    place: tuple[str | int, ...]


def _read_rules(
    source: Source,
    given: Mapping[str, object],
    found: choices.Layers,
    listed: list[list[design.Factor]],
) -> list[_Filter]:
    known = choices.known_columns([*found.factors, *(f for each in listed for f in each)])
    filters: list[_Filter] = []
    for key, wanted in (("where", True), ("exclude", False)):
        texts = given.get(key, [])
        single = isinstance(texts, str)
        for at, text in enumerate([texts] if single else texts if isinstance(texts, list) else []):
            place = (key,) if single else (key, at)
            if not isinstance(text, str):
                continue  # the form has said so
            try:
                rule = rules.Rule.parse(text)
            except UserError as error:
                source.problem(place, str(error))
                continue
            # What cannot be read may have any column: complain of it once, not twice.
            unread = {c for c in rule.columns if c.split(".")[0] in found.broken}
            for sentence in rule.unknown(known | unread):
                source.problem(place, sentence)
            filters.append(_Filter(rule, wanted, place))
    return filters


def _keep(source: Source, filters: Iterable[_Filter]) -> Keep:
    filters = list(filters)
    broken: set[_Filter] = set()

    def holds(each: _Filter, view: Mapping[str, object]) -> bool:
        if each in broken:
            return False
        try:
            return each.rule.holds(view) == each.wanted
        except UserError as error:
            broken.add(each)
            source.problem(each.place, str(error))
            return False

    def keep(stack: Stack) -> bool:
        view = rules.columns(stack) if filters else {}
        held = [holds(each, view) for each in filters]  # every rule gets to complain
        return all(held)

    return keep


def _designed(
    form: StudyForm, found: choices.Layers, base: list[design.Level], keep: Keep
) -> Iterator[Stack]:
    if not found.factors:
        return
    if isinstance(form.design, RandomDesign):
        drawn = form.design.random
        yield from design.draw(found.factors, drawn.n, drawn.seed, keep)
        return
    if form.design == "one-at-a-time":
        yield from filter(keep, design.one_at_a_time(found.factors, base))
        return
    if not isinstance(form.design, str):
        yield from _screened(form.design, found.factors, keep)
        return
    count = design.size(found.factors)
    if count > MAX_STACKS:
        raise UserError(
            f"design: full makes {count} stacks; at most {MAX_STACKS} are allowed. Take "
            "`design: {random: {n: 200, seed: 1}}` or `design: one-at-a-time`"
        )
    yield from filter(keep, design.full(found.factors))


def _screened(asked: Screening, factors: list[design.Factor], keep: Keep) -> Iterator[Stack]:
    """Return few stacks that tell most, or those around one."""
    from dlas.study import screening

    if isinstance(asked, NeighboursDesign):
        yield from _around(asked.neighbours, factors, keep)
        return
    if isinstance(asked, PairwiseDesign):
        seed = asked.pairwise.seed
        yield from design.screened(factors, keep, lambda c: screening.pairwise(c, seed), MOST_RUN)
        return
    wanted = asked.d_optimal

    def choose(codes: screening.Codes) -> list[int]:
        return screening.d_optimal(codes, wanted.n, wanted.effects, wanted.seed)

    yield from design.screened(factors, keep, choose, MOST_WEIGHED)


def _around(asked: NeighboursSize, factors: list[design.Factor], keep: Keep) -> Iterator[Stack]:
    from dlas.study import screening

    count = design.size(factors)
    if count > MAX_STACKS:
        raise UserError(
            f"design: neighbours looks among all {count} stacks; at most {MAX_STACKS} are allowed"
        )
    every = list(design.distinct(design.full(factors)))
    found = [stack for stack in every if stack.cell.startswith(asked.of)]
    if len(found) != 1:
        raise UserError(
            f"design.neighbours.of: {len(found) or 'no'} stacks of these layers begin with "
            f"{asked.of!r}; `dlas table` lists cells, like {every[0].cell}"
        )

    def choose(codes: screening.Codes) -> list[int]:
        return screening.neighbours(codes, every.index(found[0]), asked.changes)

    yield from filter(keep, design.screened(factors, lambda _stack: True, choose, MAX_STACKS))


def _notes(source: Source, form: StudyForm, stacks: tuple[Stack, ...]) -> tuple[str, ...]:
    if not stacks:
        raise UserError(
            f"{source.name}: no stack is left: the rules of `where` and `exclude` "
            "refuse every combination"
        )
    wanted = 0
    if isinstance(form.design, RandomDesign):
        wanted = form.design.random.n
    if isinstance(form.design, DOptimalDesign):
        wanted = form.design.d_optimal.n
    if len(stacks) < wanted:
        return (f"design: only {len(stacks)} stacks meet the rules, {wanted} were asked for",)
    return ()
