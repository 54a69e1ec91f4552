"""How long does a report take to open, how long is it, and does anything overflow?

    python benchmarks/page.py out/quickstart/report.html [--times 5] [--shots docs/images]

Opens it in headless Chromium at 1600 pixels, again and again, each time in a new browser, and
prints when the first screen was painted, when the page could be used and when its last chart was
drawn, in the median and at worst; its height; and at 360 to 1600 pixels the texts that overflow or
lie on each other (``tests/fakes/crowded.py``). The exit status is 1 where the page can be used
only after more than 3 s, is longer than 9,000 pixels, or any text overflows or collides.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fakes"))

import crowded
from browser import Page

LONGEST, SLOWEST_S = 9000, 3.0
WIDTHS = (360, 480, 768, 1024, 1280, 1600)
MOMENTS = {
    "first paint": "performance.getEntriesByName('first-contentful-paint')[0].startTime",
    "ready": "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd",
}
"""Milliseconds since the page was asked for, in the words of the browser."""


def opened(report: Path) -> dict[str, float]:
    """Open a report in a new browser; return by moment the seconds since it was asked for."""
    with Page() as page:
        began = time.monotonic()
        page.open(report)
        drawn = time.monotonic() - began
        return {name: page.run(said) / 1e3 for name, said in MOMENTS.items()} | {"drawn": drawn}


def crowds(report: Path, shots: Path | None) -> tuple[int, dict[int, list[str]]]:
    """Return the height of a report at 1600 pixels, and what is wrong with its texts by width."""
    wrong = {}
    with Page() as page:
        page.open(report)
        height = int(page.run("document.documentElement.scrollHeight"))
        for width in WIDTHS:
            page.resize(width)
            page.run("scrollTo(0, 0), redraw()")
            page.wait_drawn()
            wrong[width] = [
                *page.run(crowded.OVERFLOWS + "('body')"),
                *page.run(crowded.COLLISIONS + "('body')"),
                *page.run(crowded.CHART_TEXTS),
            ]
            if page.run("document.documentElement.scrollWidth") > width:
                wrong[width].append("the page is wider than the window")
            if shots is not None:
                page.screenshot(shots / f"{report.parent.name}-{width}.png")
    return height, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--shots", type=Path, help="also write the first screen at every width")
    asked = parser.parse_args()
    found = [opened(asked.report) for _ in range(asked.times)]
    print("| moment | median | worst |\n| --- | --- | --- |")
    for name in found[0]:
        each = [one[name] for one in found]
        print(f"| {name} | {statistics.median(each):.2f} s | {max(each):.2f} s |")
    height, wrong = crowds(asked.report, asked.shots)
    print(f"\n{asked.report.stat().st_size / 1e6:.1f} MB, {height} pixels long at 1600 wide.")
    for width, texts in wrong.items():
        print(f"At {width}: {'; '.join(texts) or 'nothing overflows, collides or is cut off'}")
    slow = statistics.median(one["ready"] for one in found) > SLOWEST_S
    return int(slow or height > LONGEST or any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())
