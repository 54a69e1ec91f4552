"""Numbers, versions or names: what levels are, from how they are written."""

import pytest

from dlas.analyze.estimate.scales import NAMES, NUMBERS, VERSIONS, key_of, scale_of


@pytest.mark.parametrize(
    ("levels", "kind"),
    [
        (["1.9", "1.10", "1.20"], VERSIONS),
        (["1.1", "1.10"], VERSIONS),
        (["5.1.10", "5.1.05", "4.0.07"], VERSIONS),
        (["2.1.0+cu118", "2.1.0rc1", "2.0"], VERSIONS),
        (["2023.1", "2023.10", "2024.2"], VERSIONS),
        (["v1.2", "v1.10"], VERSIONS),
        (["0.35", "0.5", "0.75", "1.0", "1.4"], NUMBERS),
        (["0.50", "0.75", "0.9"], NUMBERS),
        (["2.5", "2.25"], NUMBERS),
        (["1", "2", "4", "16"], NUMBERS),
        (["1e-3", "1e-4"], NUMBERS),
        (["-1", "0", "1"], NUMBERS),
        (["1.9", "1.11", "1.12"], NAMES),
        (["0.9", "0.10"], NAMES),
        (["010", "08"], NAMES),
        (["5.1.10", "None"], NAMES),
        (["True", "False"], NAMES),
        (["nan", "1"], NAMES),
        (["1_000", "2_000"], NAMES),
        (["50%", "70%"], NAMES),
    ],
)
def test_what_levels_are(levels, kind):
    assert scale_of("x", levels).kind == kind
    assert scale_of("x", levels[::-1]) == scale_of("x", levels)


def test_what_nobody_can_tell_is_said():
    assert scale_of("x", ["1.9", "1.11"]).doubt == "1.11, 1.9 may be versions or numbers"
    assert not scale_of("x", ["1.9", "2.1"]).doubt


@pytest.mark.parametrize("name", ["ort", "torch_version", "cuDNN", "driver version"])
def test_a_name_of_software_makes_versions(name):
    assert scale_of(name, ["1.9", "1.11"]).kind == VERSIONS
    assert scale_of(name, ["8", "16"]).kind == NUMBERS


def test_two_spellings_of_a_number_are_one_level():
    assert scale_of("x", ["1", "1.0", "2"]).spelling == {"1.0": "1"}
    assert scale_of("x", ["1.0", "2.0"]).spelling == {"1.0": "1", "2.0": "2"}
    assert scale_of("x", ["1.10", "1.20"]).spelling == {}
    assert scale_of("x", ["1.1", "1.10"]).spelling == {}


def test_an_order_may_be_asked_for():
    assert scale_of("x", ["50%", "70%"], NUMBERS).kind == NUMBERS
    assert scale_of("x", ["1", "2"], NAMES).kind == NAMES


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (VERSIONS, ["1.9", "1.10rc1", "1.10", "1.20"]),
        (NAMES, ["net9", "Net10", "net10", "(empty)"]),
        (NUMBERS, ["-1", "0.5", "8", "10", "(empty)"]),
    ],
)
def test_levels_are_sorted_by_what_they_are(kind, expected):
    turned = expected[::-1]
    assert sorted(turned, key=key_of(kind)) == expected
