"""`docs/real-inputs.md` names tests that are there, one at least for each case."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CASES = [
    line
    for line in (ROOT / "docs" / "real-inputs.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| case |", "| --- "))
]


def named(case: str) -> list[tuple[str, str]]:
    """Return the file and the function of each test that holds a case."""
    file, found = "", []
    for place, test in re.findall(r"`([\w/.]*)::(\w+)`", case.split(" | ")[-1]):
        file = place or file
        found.append((file, test))
    return found


def missing(case: str) -> list[str]:
    """Return what is wrong with the tests that a case names."""
    problems = [] if named(case) else ["names no test"]
    for file, test in named(case):
        if not (ROOT / file).is_file():
            problems.append(f"there is no {file}")
        elif not re.search(rf"^ *def {test}\(", (ROOT / file).read_text(), re.MULTILINE):
            problems.append(f"{file} has no {test}")
    return problems


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.split("|")[1].strip()[:60])
def test_every_case_is_held_by_tests_that_are_there(case: str) -> None:
    assert len(case.strip("| ").split(" | ")) == 3
    assert not missing(case)


def test_a_test_that_is_not_there_is_seen() -> None:
    assert missing("| a | b | nothing |") == ["names no test"]
    assert missing("| a | b | `tests/test_real_inputs.py::test_gone`, `tests/x.py::test_y` |") == [
        "tests/test_real_inputs.py has no test_gone", "there is no tests/x.py",
    ]  # fmt: skip


def test_no_case_stands_twice() -> None:
    names = [case.split("|")[1].strip() for case in CASES]
    assert len(names) > 40 and len(set(names)) == len(names)
