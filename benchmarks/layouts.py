"""Are image folders and Parquet files read as people mean them? Layouts drawn at random.

    python benchmarks/layouts.py [--count 50] [--seed 0]

writes each layout, reads it, and prints what it was, what was expected and what came of it; ends
with 1 where one was not read, or not refused, as it should be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "fakes"))

import image_layouts


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(asked.seed, asked.seed + asked.count):
            layout = image_layouts.make(Path(folder), seed)
            problem = image_layouts.read(layout)
            wrong += bool(problem)
            expected = f"refused: {layout.refusal}" if layout.refusal else "read"
            words = f"{layout.kind}: {'; '.join(layout.words)}"
            print(f"{seed:5}  {words:84}  {expected:34}  {problem or 'as expected'}")
    print(f"{asked.count - wrong} of {asked.count} as expected")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
