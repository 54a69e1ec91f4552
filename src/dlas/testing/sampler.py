"""What a sampler promises, for authors of samplers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dlas.core.goals import Goals
from dlas.core.sampler import Axis, Sampler, StackSpace, Told

ONE = Goals(minimize=("latency_ms",))
SEVERAL = Goals(minimize=("latency_ms",), maximize=("accuracy",), at_most=(("memory_mb", 25.0),))
FAILS_EVERY = 5
Made = Callable[[Goals, int], Sampler]


@dataclass(frozen=True)
class SamplerCheck:
    """One promise of one sampler. ``str()`` is its name, calling it checks it."""

    sampler: str
    name: str
    promise: str
    _judge: Callable[[Made], None] = field(repr=False, compare=False)
    _make: Made = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Check the promise.

        Raises:
            AssertionError: it is broken.
        """
        try:
            self._judge(self._make)
        except AssertionError as error:
            raise AssertionError(f"sampler {self.sampler!r}: {error}") from None
        except Exception as error:
            raise AssertionError(
                f"sampler {self.sampler!r} raised {type(error).__name__}: {error}"
            ) from error


def checks(kind: type[Sampler]) -> list[SamplerCheck]:
    """Return the checks of a sampler."""
    name = kind.__name__

    def make(goals: Goals, seed: int) -> Sampler:
        return kind(small_space(), goals, seed)

    judges = (
        names_stacks_that_are_there, names_no_stack_twice, ends_when_nothing_is_left,
        same_told_same_named, lives_with_failures, hears_of_stacks_it_did_not_name,
        seeks_several_under_a_limit, leaves_the_space_alone,
    )  # fmt: skip
    return [
        SamplerCheck(
            name, judge.__name__.replace("_", "-"), (judge.__doc__ or "").strip(), judge, make
        )
        for judge in judges
    ]


def small_space() -> StackSpace:
    """Return 40 stacks of four factors, one of them ordered, with a hole where a rule refuses."""
    axes = (
        Axis("model", ("a", "b", "c")),
        Axis("software", ("x", "y")),
        Axis("sparsity", ("absent", "0.5", "0.9"), (-1.0, 0.0, 1.0)),
        Axis("threads", ("1", "2", "4"), (0.0, 0.5, 1.0)),
    )
    every = itertools.product(*(range(len(axis.levels)) for axis in axes))
    rows = [row for row in every if not (row[1] == 1 and row[2] == 2 and row[0] != 1)]
    codes = np.array(rows[:40], dtype=np.int64)
    return StackSpace(axes, codes)


def told_of(space: StackSpace, at: int, failing: bool = False) -> Told:
    """Return what a stack of the small space would be measured as."""
    if failing and at % FAILS_EVERY == 0:
        return Told(at, None)
    model, software, sparsity, threads = (int(level) for level in space.codes[at])
    latency = 4.0 * (model + 1) / (1 + 0.7 * threads) * (1.5 if software else 1.0)
    memory = 10.0 + 5 * model + 4 * software
    return Told(at, {
        "latency_ms": latency * (1.2 if software and threads == 2 else 1.0),
        "accuracy": 0.9 + 0.02 * model - 0.01 * sparsity**2,
        "memory_mb": memory,
    })  # fmt: skip


def _play(sampler: Sampler, most: int, batch: int = 1, failing: bool = False) -> list[int]:
    order: list[int] = []
    while len(order) < most:
        named = sampler.ask(min(batch, most - len(order)))
        if not named:
            break
        order += named
        for at in named:
            sampler.tell(told_of(sampler.candidates, at, failing))
    return order


def names_stacks_that_are_there(make: Made) -> None:
    """It names numbers of stacks of the space, no more than were asked for."""
    sampler = make(ONE, 0)
    for most in (1, 3, 6):
        named = sampler.ask(most)
        assert len(named) == most, f"asked for {most} of 40 stacks, it named {len(named)}"
        off = [at for at in named if not 0 <= at < len(sampler.candidates)]
        assert not off, f"it named {off[0]}, which is no stack of a space of 40"
        for at in named:
            sampler.tell(told_of(sampler.candidates, at))


def names_no_stack_twice(make: Made) -> None:
    """It never names a stack twice, whether it was told of it yet or not."""
    sampler = make(ONE, 0)
    waiting = sampler.ask(4)
    order = [*waiting, *sampler.ask(4)]
    for at in order:
        sampler.tell(told_of(sampler.candidates, at))
    order += _play(sampler, 12, batch=3)
    assert len(set(order)) == len(order), "it named a stack twice"


def ends_when_nothing_is_left(make: Made) -> None:
    """It names every stack if it is asked long enough, and then none."""
    sampler = make(ONE, 0)
    order = _play(sampler, 1000, batch=8)
    assert sorted(order) == list(range(len(sampler.candidates))), (
        f"it named {len(set(order))} of {len(sampler.candidates)} stacks before it stopped"
    )
    assert sampler.ask(1) == [], "it names stacks when none is left"


def same_told_same_named(make: Made) -> None:
    """The same seed, asked and told the same, names the same stacks in the same order."""
    first, second = _play(make(ONE, 7), 18, batch=3), _play(make(ONE, 7), 18, batch=3)
    assert first == second, f"the same seed named {first}, then {second}"


def lives_with_failures(make: Made) -> None:
    """Stacks that fail, even all of them at first, do not stop it."""
    assert len(_play(make(ONE, 1), 20, batch=2, failing=True)) == 20, "it gave up"
    sampler = make(ONE, 2)
    for at in sampler.ask(14):
        sampler.tell(Told(at, None))
    assert sampler.ask(2), "after 14 failures it names nothing"


def hears_of_stacks_it_did_not_name(make: Made) -> None:
    """It takes in stacks that it did not ask for, and does not name them then."""
    sampler = make(ONE, 3)
    given = list(range(0, 30, 2))
    for at in given:
        sampler.tell(told_of(sampler.candidates, at))
    again = set(given) & set(_play(sampler, 15))
    assert not again, f"it named {sorted(again)}, which it had been told of"


def seeks_several_under_a_limit(make: Made) -> None:
    """It takes several goals, to be minimized and maximized, with a limit."""
    assert len(_play(make(SEVERAL, 4), 20, batch=4, failing=True)) == 20, "it gave up"


def leaves_the_space_alone(make: Made) -> None:
    """It changes nothing of the space it is given."""
    sampler = make(SEVERAL, 5)
    before = sampler.candidates.codes.copy()
    _play(sampler, 16)
    assert np.array_equal(before, sampler.candidates.codes), "it changed the stacks"
