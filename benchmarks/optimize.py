"""From a network of your own and 400 photos to a folder that runs without dlas, tried to its end.

    python benchmarks/optimize.py PHOTOS.parquet out/front-door
    python benchmarks/optimize.py PHOTOS.parquet out/front-door --networks onnx --budget 8m

PHOTOS.parquet has images and labels, as Hugging Face's data sets have them (CIFAR-10's will do).
It makes a folder of photos of them, a folder a class, and a small ``nn.Module`` beside it, trains
it (``dlas train``), and for the module and for an ONNX file of it: runs ``dlas optimize``, makes
a fresh environment of the exported folder's ``requirements.txt`` and nothing else, runs
``verify.py`` and ``predict.py`` there, changes one byte of the weights, and sees ``verify.py``
fail. Prints what each step took; exits with 1 where one did not end as it should.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PHOTOS = 400
CLASSES = 10
EPOCHS = 8
MOST_S = 600.0
"""What ``dlas optimize`` may take with a budget of 8 minutes."""
NET = '''"""A small network with residual blocks, as anyone would write it."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )
        self.beside = nn.Conv2d(before, after, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.beside(x))


class Net(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(in_channels, 24, 3, 1, 1), nn.ReLU())
        self.blocks = nn.Sequential(Block(24, 24, 1), Block(24, 48, 2), Block(48, 96, 2))
        self.last = nn.Linear(96, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.blocks(self.first(x)).mean((2, 3)))


def build(num_classes: int, in_channels: int, size: int) -> nn.Module:
    torch.manual_seed(0)
    return Net(num_classes, in_channels)
'''


def photos(parquet: Path, folder: Path) -> tuple[int, int]:
    """Write photos of a Parquet file as files, a folder a class.

    Returns how many there are, and the shortest side of any.
    """
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(parquet)
    image = next(name for name in ("image", "img") if name in table.column_names)
    label = next(name for name in ("label", "labels", "fine_label") if name in table.column_names)
    of_class: dict[Any, list[int]] = defaultdict(list)
    for row, each in enumerate(table[label].to_pylist()):
        of_class[each].append(row)
    chosen = sorted(of_class, key=lambda c: (-len(of_class[c]), str(c)))[:CLASSES]
    rows = [row for c in chosen for row in of_class[c][: PHOTOS // len(chosen)]]
    sides = []
    for row in rows:
        data = table[image][row].as_py()["bytes"]
        with Image.open(io.BytesIO(data)) as opened:
            sides.append(min(opened.size))
            ending = {"JPEG": "jpg"}.get(str(opened.format), str(opened.format).lower())
        place = folder / f"class-{table[label][row].as_py()}" / f"{row:05d}.{ending}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return len(rows), min(sides)


def onnx_file(work: Path, classes: int, size: int) -> None:
    """Export the trained network as anyone would: a fixed batch of one."""
    import torch
    from safetensors.torch import load_file

    made: dict[str, Any] = {}
    exec(compile(NET, "my_net.py", "exec"), made)
    net = made["build"](classes, 3, size).eval()
    net.load_state_dict({n: t.float() for n, t in load_file(work / "my_net.safetensors").items()})
    torch.onnx.export(net, (torch.zeros(1, 3, size, size),), work / "my_net.onnx", dynamo=True)


@dataclass
class Steps:
    """Runs one command after another; notes what each took and whether it ended as expected."""

    work: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def run(
        self, name: str, command: Sequence[str | Path], cwd: Path | None = None, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        began = time.perf_counter()
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd or self.work, text=True, check=False,
            capture_output=True,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        good = done.returncode == code
        self.note(name, seconds, good, f"exit code {done.returncode}")
        if not good:
            print(done.stdout[-3000:], done.stderr[-3000:], sep="\n", flush=True)
        return done

    def note(self, name: str, seconds: float, good: bool, said: str) -> None:
        self.rows.append({"step": name, "seconds": round(seconds, 1), "good": good, "said": said})
        print(f"{'ok ' if good else 'NO '} {seconds:7.1f} s  {name}: {said}", flush=True)


def network(steps: Steps, kind: str, budget: str, size: int) -> None:
    """Optimize one network, and try what was exported as a stranger would."""
    out = steps.work / kind
    given = ["my_net.onnx"] if kind == "onnx" else ["my_net.py", "--weights", "my_net.safetensors"]
    command = [sys.executable, "-m", "dlas.cli", "optimize", *given, "--data", "photos",
               "--size", str(size), "--budget", budget, "--out", out, "-q"]  # fmt: skip
    done = steps.run(f"{kind}: dlas optimize", command)
    print(done.stdout, flush=True)
    if done.returncode:
        return
    seconds = steps.rows[-1]["seconds"]
    steps.note(f"{kind}: within 10 minutes", seconds, seconds <= MOST_S, f"{seconds / 60:.1f} min")
    folder = out / "best"
    python = fresh(steps, kind, folder)
    steps.run(f"{kind}: verify.py", [python, "verify.py"], folder)
    pictures = sorted((steps.work / "photos").rglob("*.*"))[:: PHOTOS // 4]
    told = steps.run(f"{kind}: predict.py", [python, "predict.py", *pictures], folder)
    print(told.stdout, flush=True)
    weights = max((folder / "artefact").rglob("*"), key=lambda f: f.stat().st_size * f.is_file())
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    kept = weights.read_bytes()
    weights.write_bytes(data)
    steps.run(f"{kind}: verify.py, one byte of {weights.name} changed", [python, "verify.py"],
              folder, code=1)  # fmt: skip
    weights.write_bytes(kept)


def fresh(steps: Steps, kind: str, folder: Path) -> Path:
    """Make an environment with what the exported folder names, and nothing else."""
    place = steps.work / f"{kind}-environment"
    steps.run(f"{kind}: a fresh environment", [sys.executable, "-m", "venv", "--clear", place])
    python = place / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "-r", folder / "requirements.txt"]
    steps.run(f"{kind}: pip install -r requirements.txt", pip)
    steps.run(f"{kind}: there is no dlas", [python, "-c", "import dlas"], Path("/"), code=1)
    return python


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parquet", type=Path)
    parser.add_argument("work", type=Path, help="a folder; it is made")
    parser.add_argument("--budget", default="8m")
    parser.add_argument("--networks", default="module,onnx")
    asked = parser.parse_args()
    work = asked.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    steps = Steps(work)
    count, size = photos(asked.parquet.absolute(), work / "photos")
    classes = len(list((work / "photos").iterdir()))
    steps.note("photos", 0.0, classes > 1, f"{count} of {classes} classes, {size} pixels")
    (work / "my_net.py").write_text(NET)
    data = f"image-folder: {{root: photos, size: {size}}}"
    steps.run("dlas train", [sys.executable, "-m", "dlas.cli", "train",
              "torch: {factory: 'my_net:build'}", data, "--out", "my_net.safetensors",
              "--epochs", str(EPOCHS), "--batch-size", "32", "--threads", "1"])  # fmt: skip
    onnx_file(work, classes, size)
    for kind in asked.networks.split(","):
        network(steps, kind, asked.budget, size)
    load = os.getloadavg()
    result = {"budget": asked.budget, "load": load, "steps": steps.rows}
    (work / "optimize.json").write_text(json.dumps(result, indent=1) + "\n")
    missed = [row["step"] for row in steps.rows if not row["good"]]
    print(f"load average {load[0]:.1f}; " + (f"missed: {', '.join(missed)}" if missed else "met"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
