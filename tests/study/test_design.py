import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlas.core.stack import Choice
from dlas.study import design
from dlas.study.design import Factor, Level

FIXED = ("dataset", "model", "algorithm", "hardware")


def level(*names: str) -> Level:
    return Level(tuple(Choice(name) for name in names))


def factors(*sizes: int) -> list[Factor]:
    """One sub-layer of ``optimization`` for each size, and one choice everywhere else."""
    made = [Factor(layer, "", (level("only"),)) for layer in FIXED]
    made.append(Factor("software", "", (level("pytorch"),)))
    for at, count in enumerate(sizes):
        levels = tuple(level(f"step-{at}-{n}") for n in range(count))
        made.append(Factor("optimization", f"part-{at}", levels))
    return made


sizes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(sizes)
def test_full_is_the_product(counts):
    stacks = list(design.full(factors(*counts)))
    assert len(stacks) == math.prod(counts) == design.size(factors(*counts))
    assert len({s.cell for s in stacks}) == len(stacks)


@given(sizes)
def test_one_at_a_time_is_the_sum(counts):
    made = factors(*counts)
    base = [f.levels[-1] for f in made]
    stacks = list(design.one_at_a_time(made, base))
    assert len(stacks) == 1 + sum(count - 1 for count in counts)
    everything = {s.cell for s in design.full(made)}
    assert {s.cell for s in stacks} <= everything
    for stack in stacks[1:]:
        differing = [k for k, v in stack.sublayers.items() if stacks[0].sublayers[k] != v]
        assert len(differing) == 1


@given(sizes, st.integers(1, 30), st.integers(0, 5))
def test_random_draws_without_repeating_and_larger_only_adds(counts, n, seed):
    made = factors(*counts)
    drawn = [s.cell for s in design.draw(made, n, seed, lambda _: True)]
    assert len(drawn) == len(set(drawn)) == min(n, math.prod(counts))
    assert set(drawn) <= {s.cell for s in design.full(made)}
    more = [s.cell for s in design.draw(made, n + 7, seed, lambda _: True)]
    assert more[: len(drawn)] == drawn


def test_random_obeys_the_rules_and_ends_where_nothing_meets_them():
    made = factors(10, 10, 10)
    wanted = "step-0-3"
    some = list(design.draw(made, 20, 1, lambda s: s.text("optimization").startswith(wanted)))
    assert len(some) == 20
    assert all(s.optimization[0].name == wanted for s in some)
    assert list(design.draw(made, 5, 1, lambda _: False)) == []


def test_random_of_a_grid_too_large_to_list():
    made = factors(*[1000] * 5)
    assert design.size(made) == 10**15
    assert len(list(design.draw(made, 50, 3, lambda _: True))) == 50


def test_every_stack_is_drawn_about_as_often():
    made = factors(2, 3)
    counts: dict[str, int] = {}
    for seed in range(600):
        (stack,) = design.draw(made, 1, seed, lambda _: True)
        counts[stack.cell] = counts.get(stack.cell, 0) + 1
    assert len(counts) == 6
    # 600 draws into 6 bins: 100 each, standard deviation 9.
    assert all(60 < c < 140 for c in counts.values())


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        (["none"], ["none"]),
        (["none", "none"], ["none"]),
        (["none", "int8"], ["int8"]),
        (["prune", "none", "int8"], ["prune", "int8"]),
        ([], []),
    ],
)
def test_none_vanishes_unless_it_is_all(steps, left):
    assert [c.name for c in design.pipeline(Choice(s) for s in steps)] == left


def test_sublayers_keep_each_their_text():
    made = [
        *factors(),
        Factor("optimization", "pruning", (level("none"),)),
        Factor("optimization", "precision", (level("int8"),)),
    ]
    (stack,) = design.full(made)
    assert stack.text("optimization") == "int8"
    assert stack.sublayers == {"optimization.pruning": "none", "optimization.precision": "int8"}


def test_the_last_factor_turns_quickest():
    texts = [s.text("optimization") for s in design.full(factors(2, 2))]
    assert texts == [f"step-0-{a}+step-1-{b}" for a in range(2) for b in range(2)]


def test_distinct_keeps_the_first():
    stacks = list(design.full(factors(2, 2)))
    assert list(design.distinct([*stacks, *stacks[::-1]])) == stacks
