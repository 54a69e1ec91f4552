"""Limits are judged by the interval of what they are of."""

import pandas as pd
import pytest

from dlas.analyze import from_study
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.parts.within import FAILS, MEETS, OPEN, verdicts_of

CELLS = [
    ("well below", 8.0, 7.5, 8.5, MEETS),
    ("may be above", 9.9, 9.0, 10.9, OPEN),
    ("may be below", 10.1, 9.3, 11.0, OPEN),
    ("well above", 12.0, 11.0, 13.0, FAILS),
    ("without an interval", 9.9, None, None, MEETS),
]


@pytest.mark.parametrize("ends", [("latency_low_ms", "latency_high_ms"),
                                  ("latency_ms_low", "latency_ms_high")])  # fmt: skip
def test_a_limit_on_latency_as_seen_is_judged_by_its_own_interval(ends: tuple[str, str]) -> None:
    """Decided by undisturbed latency; the limit is of what a user of the machine gets."""
    cells = pd.DataFrame(
        {
            "cell": name, "host": "h", "status": "complete", "dataset": "d", "model": name,
            "optimization": "none", "algorithm": "native", "software": "r", "hardware": "cpu",
            "quiet_ms": 7.0, "latency_ms": seen, ends[0]: low, ends[1]: high,
        }
        for name, seen, low, high, _ in CELLS
    )  # fmt: skip
    goals = {"minimize": ["latency_ms"], "latency_ms_at_most": 10}
    table = from_study(cells, metric="quiet_ms", goals=goals)
    found = verdicts_of(table, estimate(table)).set_index("cell")["verdict"]
    assert found.to_dict() == {name: verdict for name, *_, verdict in CELLS}
