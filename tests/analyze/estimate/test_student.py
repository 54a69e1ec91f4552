"""Student's t without the checks of scipy.stats: the same numbers, NaN where there are none."""

import numpy as np
import pytest
from scipy import stats

from dlas.analyze.estimate.student import above, below, quantile

FREEDOM = [0.0, -1.0, 0.3, 1.0, 2.5, 4.0, 17.3, 400.0, 1e7, np.inf, np.nan]
VALUES = [-np.inf, -40.0, -3.0, -1e-3, 0.0, 0.7, 5.0, 1e3, np.inf, np.nan]


@pytest.mark.parametrize("df", FREEDOM)
def test_it_is_what_scipy_says(df):
    t, p = np.array(VALUES), np.array([1e-12, 1e-5, 0.025, 0.5, 0.975, 1 - 1e-9, np.nan])
    np.testing.assert_array_equal(quantile(p, df), stats.t.ppf(p, df))
    np.testing.assert_array_equal(above(t, df), stats.t.sf(t, df))
    np.testing.assert_array_equal(below(t, df), stats.t.cdf(t, df))


def test_values_and_freedom_go_together():
    t, df = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[3.0, np.inf], [1.0, 0.5]])
    np.testing.assert_array_equal(above(t, df), stats.t.sf(t, df))
    np.testing.assert_array_equal(quantile(0.975, df), stats.t.ppf(0.975, df))
    assert float(above(2.0, 5.0)) == stats.t.sf(2.0, 5.0)
