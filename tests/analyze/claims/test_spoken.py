"""What is said of a test: what it asks beside its text, and the case on which a verdict hangs."""

from __future__ import annotations

import pytest

from claim_tables import PLAIN, SIZE, SPEED, claim, evidence, grid, judged
from dlas.analyze.claims import as_json, as_markdown, as_text, judge
from dlas.analyze.claims.hypothesis import ClaimsFile
from dlas.analyze.claims.spoken import conditions

FASTER = "speedup(opt == 'fast') > 1 in every context"


@pytest.mark.parametrize(
    ("test", "options", "said"),
    [
        (FASTER, {}, ""),
        (FASTER, {"where": ("threads == 2", "opt != 'slow'")},
         "; where threads == 2 and opt != 'slow'"),
        (FASTER, {"least_effect": 0.05}, "; by at least 5 %"),
        (FASTER, {"least_contexts": 5}, "; in at least 5 cases"),
        (FASTER, {"floor": 0.2}, ""),  # which it does not use
        ("drop(opt == 'fast') > 0 in every model", {"least_effect": 0.02},
         "; by at least 2 points"),
        ("speedup(opt == 'fast') == 2 in every context", {}, "; the same: within 5 %"),
        ("speedup(opt == 'fast') != 2 in every context", {"floor": 0.2},
         "; the same: within 20 %"),
        ("flips(opt, by=threads) in some model", {}, "; the same: within 5 %"),
        ("winner(opt) == 'fast' in every model", {}, ""),
    ],
)  # fmt: skip
def test_what_a_claim_asks_beside_its_test(test, options, said):
    one = claim(test, **options)
    assert conditions(evidence(PLAIN), one, one.tests[0]) == said


def test_conditions_stand_beside_the_test_wherever_it_is_shown():
    one = claim(FASTER, where=("threads == 2",), least_effect=0.05, least_contexts=4)
    file, found = ClaimsFile("f", (one,), "h", ""), evidence(PLAIN)
    made, told = judge(found, file), "; where threads == 2; by at least 5 %; in at least 4 cases"
    assert f"   test: {FASTER}{told}\n" in as_text(found, file, made)
    assert f"  `{FASTER}`{told} (" in as_markdown(found, file, made)
    (data,) = as_json(found, file, made)["claims"]
    assert data["where"] == ["threads == 2"]
    assert (data["contexts_at_least"], data["effect_at_least"], data["floor"]) == (4, 0.05, 0.05)


# ---------------------------------------------------------------- the case that decides


def fast_on(good, models="abcdef"):
    """Return a table in which the fast choice is fast on some models alone."""
    return grid(
        lambda m, o, t: SIZE[m] * (2 if o == "fast" and m not in good else SPEED[o]), models=models
    )


@pytest.mark.parametrize(
    ("good", "verdict", "surely"),
    [
        ("abcdef", "reproduced", True),
        ("abcd", "reproduced", True),
        ("abc", "not reproduced", False),
        ("", "not reproduced", False),
    ],
)
def test_the_case_that_decides_of_most_is_on_the_side_of_the_verdict(good, verdict, surely):
    found = evidence(fast_on(good))
    (one,) = judged(found, claim("speedup(opt == 'fast') > 1 in most model"))
    assert one.verdict == verdict
    assert one.tests[0].decisive.surely is surely


def test_the_case_that_decides_of_most_is_the_last_that_is_needed():
    """Four of six are needed: of five that are sure it is the fourth surest, not the least."""
    gains = dict(zip("abcdef", (1.01, 1.1, 1.2, 1.3, 1.4, 0.5), strict=True))
    frame = grid(lambda m, o, t: SIZE[m] / (gains[m] if o == "fast" else 1), models="abcdef")
    (one,) = judged(evidence(frame, 0.05), claim("speedup(opt == 'fast') > 1 in most model"))
    tried = one.tests[0]
    p = sorted(a.true for a in tried.answers)
    assert tried.decisive.true == p[3]
    assert tried.decisive.place == {"model": "b"}
