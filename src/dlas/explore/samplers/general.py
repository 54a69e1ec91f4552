"""Samplers for any space (Optuna's), made to choose from the stacks that there are.

They propose a level of each factor. A proposal that is no stack, or one that was named before, is
taken to the nearest unmeasured stack: fewest changed factors, ties by chance. They are told that
stack, since they would spend their budget on stacks that are not there.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dlas.core.goals import Goals
from dlas.core.sampler import Axis, Sampler, StackSpace, Told
from dlas.explore.sought import Sought

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

BEGINNING = 10
POPULATION = 12


class General(Sampler):
    """What Optuna's samplers have in common."""

    requires: ClassVar[tuple[str, ...]] = ("optuna",)

    def __init__(self, candidates: StackSpace, goals: Goals, seed: int) -> None:
        super().__init__(candidates, goals, seed)
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._sought = Sought(goals)
        self._directions = ["minimize" if s > 0 else "maximize" for _, s in self._sought.metrics]
        self._distributions = {
            str(i): _distribution(axis) for i, axis in enumerate(candidates.axes)
        }
        self._ties = np.random.default_rng(seed)
        self._attributes: dict[int, Mapping[str, Any]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some of its options are called experimental
            self._study = optuna.create_study(
                directions=self._directions, sampler=self.sampler(seed)
            )

    def sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler."""
        raise NotImplementedError

    def choose(self, costs: Sequence[float] | None) -> int:
        """Return the unnamed stack nearest to what is proposed."""
        from optuna.trial import TrialState

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask(self._distributions)
        proposed = np.array([trial.params[str(i)] for i in range(len(self.candidates.axes))])
        # Optuna's own notes on a trial (its generation) go with the stack that is told instead.
        told = self._study.tell(trial, state=TrialState.FAIL)
        left = np.array(self.left)
        apart = (self.candidates.codes[left] != proposed).sum(1)
        at = int(self._ties.choice(left[apart == apart.min()]))
        self._attributes[at] = dict(told.system_attrs)
        return at

    def tell(self, told: Told) -> None:
        """Tell Optuna the stack that was measured; of one that failed nothing is told."""
        from optuna.trial import TrialState, create_trial

        super().tell(told)
        if told.values is None:
            return
        limits = {
            f"constraints:{number}": float(sign * (told.values[column] - bound))
            for number, (column, sign, bound) in enumerate(self._sought.limits)
        }
        params = {str(i): int(c) for i, c in enumerate(self.candidates.codes[told.at])}
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                params=params,
                distributions=self._distributions,
                values=[float(told.values[column]) for column, _ in self._sought.metrics],
                system_attrs={**self._attributes.get(told.at, {}), **limits},
            )
        )


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    n = len(axis.levels)
    if axis.positions is not None and n > 2:
        return IntDistribution(0, n - 1)
    return CategoricalDistribution(range(n))


class Tpe(General):
    """Tree-structured Parzen estimator, its factors together."""

    def sampler(self, seed: int) -> BaseSampler:
        """Return it."""
        from optuna.samplers import TPESampler

        return TPESampler(seed=seed, n_startup_trials=BEGINNING, multivariate=True)


class Nsga2(General):
    """Evolution by non-dominated sorting."""

    def sampler(self, seed: int) -> BaseSampler:
        """Return it, with a population for few measurements."""
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=seed, population_size=POPULATION)


class Gp(General):
    """Optuna's Gaussian process (needs torch)."""

    requires: ClassVar[tuple[str, ...]] = ("optuna", "torch")

    def sampler(self, seed: int) -> BaseSampler:
        """Return it."""
        from optuna.samplers import GPSampler

        return GPSampler(seed=seed, n_startup_trials=BEGINNING, deterministic_objective=True)
