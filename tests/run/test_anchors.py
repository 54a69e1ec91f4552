"""Which cells are measured again so that two sessions can be compared."""

from __future__ import annotations

from dlas.run.anchors import anchors

Cell = tuple[str, str, int]
"""Model, runtime, threads."""
BEFORE = [(m, r, t) for m in ("m0", "m1", "m2") for r in ("a", "b") for t in (1, 2)]


def chosen(before: list[Cell], again: list[Cell]) -> list[Cell]:
    return anchors(before, again, cell=str, stratum=lambda c: c[1:], model=lambda c: c[0])


def test_two_of_each_runtime_and_threads_and_every_model() -> None:
    found = chosen(BEFORE, [])
    for stratum in {c[1:] for c in BEFORE}:
        assert sum(c[1:] == stratum for c in found) >= 2
    assert {c[0] for c in found} == {"m0", "m1", "m2"}
    assert len(found) <= 9 and len(set(found)) == len(found)


def test_six_in_all_where_there_are_so_many() -> None:
    def alike(n: int, again: int = 0) -> int:
        before = [f"c{i}" for i in range(n)]
        found = anchors(
            before, before[:again], cell=str, stratum=lambda _: "a", model=lambda _: "m"
        )
        assert len(set(found)) == len(found) and not set(found) & set(before[:again])
        return len(found)

    assert [alike(n) for n in (1, 2, 6, 9)] == [1, 2, 6, 6]
    assert [alike(9, again=n) for n in (1, 5, 7)] == [5, 1, 0]


def test_a_model_that_no_other_anchor_has_is_added() -> None:
    before = [("m0", "a", 1), ("m1", "a", 1), ("m2", "a", 1), ("m3", "a", 1)]
    assert {c[0] for c in chosen(before, [])} == {"m0", "m1", "m2", "m3"}


def test_what_is_measured_again_anyway_is_enough() -> None:
    assert chosen(BEFORE, BEFORE) == []
    some = [c for c in BEFORE if c[1] == "a"]
    assert {c[1] for c in chosen(BEFORE, some)} == {"b"}


def test_the_choice_does_not_depend_on_the_order() -> None:
    assert set(chosen(BEFORE[::-1], [])) == set(chosen(BEFORE, []))
