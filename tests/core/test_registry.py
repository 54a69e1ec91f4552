"""Entry points, parameters, versions, refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from dlas.core import registry
from dlas.core.errors import UnknownName, UserError
from dlas.core.protocols import Optimization
from dlas.core.stack import LAYERS, Choice


@dataclass(frozen=True, kw_only=True)
class Sample(Optimization):
    """A technique for these tests."""

    name: ClassVar[str] = "sample"
    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.5
    steps: tuple[int, ...] = (1, 2)
    mode: Literal["a", "b"] = "a"
    root: str = ""
    places: ClassVar[tuple[str, ...]] = ("root",)


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.find

    def find(layer: str, name: str) -> type:
        return Sample if name == "sample" else real(layer, name)

    monkeypatch.setattr(registry.entries, "find", find)


def test_every_layer_has_techniques_and_each_says_what_it_is() -> None:
    rows = registry.catalogue()
    assert {row["layer"] for row in rows} == set(LAYERS)
    for row in rows:
        assert row["summary"], row
        assert registry.find(row["layer"], row["name"]).name == row["name"]
        assert registry.find(row["layer"], row["name"]).layer == row["layer"]


def test_an_unknown_name_gets_near_names() -> None:
    with pytest.raises(
        UnknownName, match=r"no software technique is called 'onnxruntim'.*Did you "
    ):
        registry.find("software", "onnxruntim")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"ratio": 1.5}, "sample.ratio: Input should be less than 1, got 1.5"),
        ({"ratio": "0.5"}, "sample.ratio: .*got \"0.5\""),
        ({"ratio": True}, "sample.ratio: .*got true"),
        ({"ratoi": 0.5}, "sample has no parameter 'ratoi'. Did you mean 'ratio'"),
        ({"mode": "c"}, "sample.mode: Input should be 'a' or 'b', got \"c\""),
        ({"ratio": float("nan")}, "parameters must be JSON"),
        ({"steps": {1, 2}}, "parameters must be JSON"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_said(sample: None, params: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        registry.make("optimization", "sample", params)


def test_all_bad_parameters_are_said_at_once(sample: None) -> None:
    with pytest.raises(UserError) as caught:
        registry.make("optimization", "sample", {"ratio": 2, "mode": "c", "more": 1})
    assert len(caught.value.problems) == 3


def test_a_choice_holds_all_parameters_and_shows_what_was_set(sample: None) -> None:
    made = registry.choice(registry.make("optimization", "sample", {"ratio": 0.3}))
    assert made.text == "sample(ratio=0.3)"
    assert made.params == {"ratio": 0.3, "steps": [1, 2], "mode": "a", "root": ""}
    assert registry.choice(registry.revive("optimization", made)) == made
    default = registry.choice(registry.make("optimization", "sample", {"ratio": 0.5}))
    assert default.text == "sample"


def test_a_list_parameter_is_known_as_one(sample: None) -> None:
    assert registry.takes_list(Sample, "steps")
    assert not registry.takes_list(Sample, "ratio")


def test_a_place_is_no_part_of_the_identity(sample: None) -> None:
    here = registry.identity(Sample(root="here"))
    assert here == registry.identity(Sample(root="there"))
    assert here != registry.identity(Sample(ratio=0.4))


def test_a_version_is_the_hash_of_the_source(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "versioned.py"
    file.write_text("A = 1\n")
    before = registry.source_version("versioned")
    registry.versions._source_hash.cache_clear()
    file.write_text("A = 2\n")
    assert registry.source_version("versioned") != before


def test_what_is_not_installed_is_unavailable_and_says_how_to_get_it() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Absent(Sample):
        requires: ClassVar[tuple[str, ...]] = ("no_such_module",)
        extra: ClassVar[str] = "tvm"

    refusal = registry.missing(Absent)
    assert refusal is not None
    assert refusal.status == "unavailable"
    assert "no_such_module" in refusal.reason
    assert "pip install 'dlas[tvm]'" in refusal.reason


def test_a_parameter_whose_name_is_taken_goes_by_its_alias():
    made = registry.choice(registry.make("model", "timm", {"name": "resnet18", "weights": ""}))
    assert made.text == "timm(name=resnet18)"
    assert set(made.params) == {"name", "weights", "seed"}
    assert list(registry.fields(registry.find("model", "timm"))) == [
        "name",
        "weights",
        "key",
        "prefix",
        "seed",
    ]
    timm = registry.revive("model", made)
    assert "weights" not in registry.without_places(timm)
    with pytest.raises(UserError, match="Parameters: name, weights, seed"):
        registry.make("model", "timm", {"weights_file": "x"})


def test_each_layer_gives_its_technique_of_a_choice_or_of_its_json() -> None:
    made = registry.choice(registry.make("hardware", "cpu", {"threads": 2}))
    assert registry.hardware(made) == registry.hardware(made.to_json())
    assert registry.hardware(made).threads == 2
    for layer in LAYERS:
        with pytest.raises(UnknownName, match=f"no {layer} technique is called 'nothing'"):
            getattr(registry, layer)(Choice("nothing"))
