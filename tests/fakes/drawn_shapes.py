"""Small convolutions drawn at random, of which no table thought."""

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st

from dlas.kernels import Conv2d, UnsupportedError

THREADS = st.integers(1, 2)
ZEROS = st.sampled_from([None, 0.0, 0.7, 1.0])
"""The share of zeros among filters; None: they are dense."""
sixty = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@st.composite
def operators(draw: st.DrawFn) -> Conv2d:
    """Any small convolution that exists."""
    size = st.integers(1, 12)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 5, 8]))
    inside, outside = draw(st.integers(1, 20)), draw(st.integers(1, 40 // groups + 1))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    try:
        return Conv2d(
            draw(st.integers(1, 3)), inside * groups, draw(size), draw(size), outside * groups,
            draw(st.tuples(st.integers(1, 5), st.integers(1, 5))), draw(pair),
            draw(st.tuples(*[st.integers(0, 3)] * 4)), draw(pair), groups,
        )  # fmt: skip
    except UnsupportedError:
        assume(False)
        raise
