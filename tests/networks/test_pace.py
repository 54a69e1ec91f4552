"""How far training has come: by steps, by the clock; rates and sizes that follow."""

from __future__ import annotations

import time

import pytest

from dlas.networks.pace import Pace, sized


def at(share: float) -> Pace:
    """Return a pace of which so much of an hour is over."""
    return Pace(7, 60, time.monotonic() - 3600 * share)


def test_steps_end_it() -> None:
    pace = Pace(20)
    assert [pace.over(step) for step in (0, 19, 20)] == [False, False, True]
    assert pace.expected(3) == 20


def test_the_rate_rises_for_a_tenth_and_falls_to_nothing() -> None:
    rates = [Pace(100).rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert rates[-1] < 0.001


@pytest.mark.parametrize(("share", "rate"), [(0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0)])
def test_the_clock_has_the_same_schedule(share: float, rate: float) -> None:
    assert at(share).rate(123_456) == pytest.approx(rate, abs=0.01)


def test_the_clock_ends_it_after_one_step_at_least() -> None:
    assert not at(2.0).over(0)
    assert at(2.0).over(1)
    assert not at(0.9).over(10_000)
    assert at(0.5).expected(10) == pytest.approx(20, abs=1)
    assert Pace(7, 0.0).over(1), "no time at all"


def test_images_grow_in_five_sizes_to_the_whole() -> None:
    pace = Pace(10)
    sizes = [pace.shape(step, 16, 32, 32) for step in range(0, 10, 2)]
    assert sizes == [(16, 16), (20, 20), (24, 24), (28, 28), (32, 32)]
    assert at(0.85).shape(0, 16, 32, 32) == (32, 32)
    assert {pace.shape(step, None, 32, 48) for step in range(10)} == {(32, 48)}
    assert pace.shape(0, 16, 32, 48) == (16, 24), "the shape of an image stays"
    assert [pace.shape(s, 7, 8, 8)[0] for s in range(10)] == [8] * 10


def test_a_smaller_image_is_a_mean_of_the_larger() -> None:
    torch = pytest.importorskip("torch")
    images = torch.rand(2, 3, 8, 8)
    assert sized(images, 8, 8) is images
    small = sized(images, 4, 4)
    assert small.shape == (2, 3, 4, 4)
    assert small.mean() == pytest.approx(float(images.mean()), abs=0.02)
    assert sized(torch.full((1, 1, 8, 8), 3.0), 4, 4).flatten().tolist() == pytest.approx(
        [3.0] * 16
    )
