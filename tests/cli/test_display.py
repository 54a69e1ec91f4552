import io
import math

import pytest

from dlas.cli import display
from dlas.cli.display import Bars, Lines, duration, plain, table, text_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (math.nan, ""), (True, "true"), (2.0, "2"), (0.123456, "0.1235"), (12, "12"),
     ("a\n b", "a b"),
     ("\x1b]0;me\x07 \x9b1m", "\\x1b]0;me\\x07 \\x9b1m"),
     (1e20, "1e+20"), ([1, 2], "[1, 2]")],
)  # fmt: skip
def test_text_of(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (12000, "3 h 20 min"),
     (math.inf, "?")],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_a_plain_table_is_aligned_and_never_wrapped():
    rows = [{"name": "a", "ms": 1.5}, {"name": "long " * 50, "ms": None}]
    lines = table(rows, ("name", "ms")).splitlines()
    assert len(lines) == 3
    assert len(lines[0]) == len(lines[1]) > 240
    assert plain(("a",), []) == "a"


def test_a_table_folds_to_a_terminal():
    rows = [{"name": "[bold]word[/bold] " * 20}]
    drawn = table(rows, ("name",), width=40)
    assert len(drawn.splitlines()) > 5
    assert "[bold]" in drawn


def test_lines_without_a_terminal_come_rarely_but_notes_always():
    stream = io.StringIO()
    shown = display.progress(stream)
    assert isinstance(shown, Lines)
    shown.start(2, 3)
    for done in range(100):
        shown.step("build", "x", done, 100)
    shown.note("look")
    shown.finish(None)
    shown.close()
    assert stream.getvalue().splitlines() == ["2 steps, about 3 measurements", "look"]


def test_quiet_says_notes_only():
    stream = io.StringIO()
    shown = display.progress(stream, quiet=True)
    shown.start(2, 3)
    shown.measurement("cell", 1, 2, 3.0)
    shown.note("look")
    assert stream.getvalue() == "look\n"


def test_bars_draw_only_when_called(monkeypatch):
    import threading

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    shown = display.progress(stream)
    assert isinstance(shown, Bars)
    shown.note("before")
    before = threading.active_count()
    shown.start(2, 3)
    assert threading.active_count() == before
    shown.step("build", "resnet [x]", 1, 2)
    shown.measurement("cell 1", 1, 3, 75.0)
    shown.note("look [y]")
    shown.finish(None)
    shown.close()
    text = stream.getvalue()
    for part in ("before", "resnet [x]", "1/2", "75 s left", "look [y]"):
        assert part in text
