"""Combinations of what was tried: nothing is said of two choices that never met."""

import itertools
from types import SimpleNamespace

import pandas as pd
import pytest

from dlas.advise import combined
from dlas.advise.untried import VARIED
from dlas.core.stack import Choice, Stack


def stack(**chosen):
    layers = {"dataset": "d", "model": "m", "optimization": "none", "algorithm": "native",
              "software": "one", "hardware": "cpu", **chosen}  # fmt: skip
    return Stack(**{layer: (Choice(name),) for layer, name in layers.items()})


def known(times):
    """Evidence with so many milliseconds by stack, the quickest the best."""
    import numpy as np

    logs = np.log([ms for _, ms in times])
    best = times[int(np.argmin(logs))][0]
    table = SimpleNamespace(cells=pd.DataFrame({"cell": [s.cell for s, _ in times]}), floor=0.05)
    estimates = SimpleNamespace(mean=logs, known=False)
    return SimpleNamespace(
        stack=best, best=best.cell, rows={}, goals=SimpleNamespace(at_most=()),
        analysis=SimpleNamespace(table=table, estimates=estimates),
        results=SimpleNamespace(stacks={s.cell: s for s, _ in times}),
        numbers=lambda *_, **__: {},
    )  # fmt: skip


def told(times):
    rules = SimpleNamespace(refuse=lambda _: None)
    return [c.stack for c in combined.combinations(known(times), rules)]


def test_what_an_algorithm_gains_on_one_runtime_says_nothing_of_it_on_another():
    # The default of one runtime is very slow: its other algorithm is no gain on the other one.
    times = [
        (stack(software="one"), 80.0), (stack(software="one", algorithm="quick"), 1.0),
        (stack(software="two"), 1.1), (stack(software="two", optimization="narrow"), 1.0),
        (stack(software="one", optimization="narrow", algorithm="quick"), 0.9),
        (stack(software="two", hardware="more"), 0.95), (stack(hardware="more"), 70.0),
        (stack(algorithm="quick", hardware="more"), 0.95), (stack(optimization="narrow"), 75.0),
    ]  # fmt: skip
    assert not any(
        s.text("software") == "two" and s.text("algorithm") == "quick" for s in told(times)
    )


def test_what_met_in_pairs_may_be_put_together():
    layers = [x for x in VARIED if x != "software"][:3]
    every = [
        {x: ("fast" if on else stack().text(x)) for x, on in zip(layers, bits, strict=True)}
        for bits in itertools.product((False, True), repeat=3)
    ]
    assert len(every) == 8
    times = [
        (stack(**chosen), 8.0 / 2 ** sum(v == "fast" for v in chosen.values()))
        for chosen in every
        if sum(v == "fast" for v in chosen.values()) < 3
    ]
    (found,) = told(times)
    assert all(found.text(x) == "fast" for x in layers)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_error_is_that_of_stacks_left_out(noise):
    import numpy as np

    rng = np.random.default_rng(0)
    times = [
        (stack(software=s, algorithm=a, optimization=o),
         float(np.exp(rng.normal(0, noise)) * (1 + "ab".index(s)) * (1 + "xy".index(a))))
        for s in "ab" for a in "xy" for o in "no"
    ]  # fmt: skip
    sd = combined._fitted(known(times)).sd
    assert sd < 0.01 if noise == 0 else sd > 0.5 * noise
