"""What fetching filters ahead gains: each kernel with and without it, measured in turns.

    python benchmarks/fetch.py

The layers are those 3x3 ones of ResNet-18 and VGG-16 whose filters are 512 kB or more. Both
variants are built from the same source in one process; a ratio is the median over all rounds of
the ratio of a round's fastest runs. Filters lie where the run before left them: in a network,
where other layers have used the caches since, more is gained.
"""

import argparse
import random

import numpy as np

from dlas.kernels import Conv2d, build_conv2d
from dlas.kernels.code import emit

LAYERS = [(128, 28, 128), (256, 14, 256), (512, 7, 512), (256, 56, 256), (256, 28, 512),
          (512, 28, 512), (512, 14, 512)]  # fmt: skip
"""Input channels, height and width, output channels."""
NEVER = 1 << 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    print("| layer | kernel | without, GFLOP/s | with | times faster |\n" + "| --- " * 5 + "|")
    rng = np.random.default_rng(0)
    for inside, size, outside in LAYERS:
        op = Conv2d(1, inside, size, size, outside, (3, 3), padding=(1, 1, 1, 1))
        weight = rng.standard_normal(op.weight_shape).astype(np.float32)
        x = rng.standard_normal(op.in_shape).astype(np.float32)
        for primitive in ("spatial-pack", "winograd"):
            kernels = {}
            for least in (NEVER, emit.FETCHED_BYTES):
                with_it, emit.FETCHED_BYTES = emit.FETCHED_BYTES, least
                kernels[least] = build_conv2d(
                    op, weight, primitive=primitive, threads=options.threads
                )
                emit.FETCHED_BYTES = with_it
            seconds: dict[int, list[float]] = {least: [] for least in kernels}
            for _ in range(options.rounds):
                for least in random.sample(list(kernels), 2):
                    runs = kernels[least].samples(x, repeats=4, warm_up=1)
                    seconds[least].append(min(runs))
            without, ahead = (np.array(found) for found in seconds.values())
            rates = [2e-9 * op.multiplications / np.median(s) for s in (without, ahead)]
            print(
                f"| {inside}x{size}x{size} -> {outside} | {primitive} | {rates[0]:.0f} | "
                f"{rates[1]:.0f} | {np.median(without / ahead):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
