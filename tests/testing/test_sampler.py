"""Every sampler keeps the contract, and each check can fail."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dlas.core.goals import Goals
from dlas.core.sampler import Sampler, StackSpace, Told
from dlas.explore.names import missing, names
from dlas.explore.samplers.chance import Chance
from dlas.testing import sampler_contract
from dlas.testing.sampler import checks

HERE = [name for name in names() if missing(name) is None and name != "gp"]
# Optuna's own Gaussian process takes a minute; it shares all of its code here with the others.


@pytest.mark.parametrize("name", HERE)
def test_a_sampler_keeps_its_contract(name: str) -> None:
    for check in sampler_contract(name):
        check()


class Outside(Chance):
    def choose(self, costs: Sequence[float] | None) -> int:
        return super().choose(costs) + 1000


class Forgetful(Chance):
    def ask(self, most: int, costs: Sequence[float] | None = None) -> list[int]:
        return [0] * most


class Tired(Chance):
    def ask(self, most: int, costs: Sequence[float] | None = None) -> list[int]:
        return [] if len(self.named) > 8 else super().ask(most, costs)


class Moody(Chance):
    turns = 0

    def __init__(self, candidates: StackSpace, goals: Goals, seed: int) -> None:
        Moody.turns += 1
        super().__init__(candidates, goals, seed + Moody.turns)


class Fragile(Chance):
    def tell(self, told: Told) -> None:
        assert told.values is not None
        super().tell(told)


class Deaf(Chance):
    def tell(self, told: Told) -> None:
        self.told.append(told)


class Single(Chance):
    def __init__(self, candidates: StackSpace, goals: Goals, seed: int) -> None:
        super().__init__(candidates, goals, seed)
        ((self.column),) = goals.columns


class Meddler(Chance):
    def tell(self, told: Told) -> None:
        super().tell(told)
        self.candidates.codes[:] = 0


BROKEN: dict[str, type[Sampler]] = {
    "names-stacks-that-are-there": Outside,
    "names-no-stack-twice": Forgetful,
    "ends-when-nothing-is-left": Tired,
    "same-told-same-named": Moody,
    "lives-with-failures": Fragile,
    "hears-of-stacks-it-did-not-name": Deaf,
    "seeks-several-under-a-limit": Single,
    "leaves-the-space-alone": Meddler,
}


def test_every_check_has_a_sampler_that_breaks_it() -> None:
    assert {check.name for check in checks(Chance)} == set(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_a_check_can_fail(name: str) -> None:
    (check,) = (c for c in checks(BROKEN[name]) if c.name == name)
    with pytest.raises(AssertionError, match=BROKEN[name].__name__):
        check()
