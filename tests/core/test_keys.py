"""Canonical JSON and hashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlas.core.keys import canonical, folder_manifest, key

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(), json_values, min_size=2))
def test_a_key_ignores_the_order_of_names(value: dict[str, object]) -> None:
    turned = dict(reversed(list(value.items())))
    assert key(value) == key(turned)


@given(json_values)
def test_canonical_text_reads_back(value: object) -> None:
    assert json.loads(canonical(value)) == value


@given(json_values, json_values)
def test_different_values_have_different_keys(a: object, b: object) -> None:
    assert (key(a) == key(b)) == (canonical(a) == canonical(b))


def test_the_parts_of_a_key_are_kept_apart() -> None:
    assert key("ab", "c") != key("a", "bc")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}, Path("x")])
def test_what_is_not_json_is_refused(bad: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        key(bad)


def test_a_manifest_names_every_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("x")
    (tmp_path / "c.txt").write_text("x")
    manifest = folder_manifest(tmp_path)
    assert list(manifest) == ["a/b.txt", "c.txt"]
    assert len(set(manifest.values())) == 1
