"""Single convolutions: every primitive against the machine's ceiling and other runtimes.

    python benchmarks/conv.py --models resnet18 --threads 1 --json conv.json

Kernel time of dlas: carried layouts, halo in place, weights packed. A peer's layer time is its
time in a chain: nine equal convolutions less one, divided by eight (only layers that keep their
shape).
The ceiling is a loop of multiply-adds in registers on the same target, before and after each
layer; the larger value counts.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from models import MODELS, PEERS

from dlas.kernels import Conv2d, UnsupportedError, build_conv2d, reference


def layers(names: list[str], size: int) -> list[Conv2d]:
    """Return the distinct convolutions of the networks, in order of appearance."""
    import timm
    import torch

    found: dict[Conv2d, None] = {}

    def note(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        n, c, h, w = inputs[0].shape
        down, across = module.padding
        op = Conv2d(
            n, c, h, w, module.out_channels, module.kernel_size, module.stride,
            (down, across, down, across), module.dilation, module.groups,
        )  # fmt: skip
        found[op] = None

    for name in names:
        model = timm.create_model(name, pretrained=False).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(note)
        with torch.no_grad():
            model(torch.zeros(1, 3, size, size))
    return list(found)


def ceiling(repeats: int = 20) -> float:
    """Return GFLOP/s of multiply-adds that stay in registers, on one core."""
    from tvm.tirx.script.builder import ir as T

    from dlas.kernels import emit
    from dlas.kernels.arrays import aligned, tensor
    from dlas.kernels.build import compile_functions
    from dlas.kernels.program import load_library
    from dlas.kernels.target import resolve

    target = resolve("native")
    lanes, sums, steps = target.lanes, target.accumulators - 4, 20_000
    function = emit.Function("ceiling")
    with function.body():
        x = emit.argument("x", (sums + 2, lanes))
        y = emit.argument("y", (sums, lanes))
        acc = emit.registers((sums, lanes))
        with T.unroll(sums) as i:
            emit.each_lane(lanes, lambda j: emit.store(acc, x[i, j], i, j))
        with T.serial(steps), T.unroll(sums) as i:
            emit.each_lane(
                lanes,
                lambda j: emit.store(acc, acc[i, j] * x[sums, j] + x[sums + 1, j], i, j),
            )
        with T.unroll(sums) as i:
            emit.each_lane(lanes, lambda j: emit.store(y, acc[i, j], i, j))
    run = load_library(compile_functions({"ceiling": function.result}, target))["ceiling"]
    values, result = aligned((sums + 2, lanes)), aligned((sums, lanes))
    values[:] = 0.5
    best = 1e9
    for _ in range(repeats):
        start = time.perf_counter()
        run(tensor(values), tensor(result))
        best = min(best, time.perf_counter() - start)
    return 2 * lanes * sums * steps / best / 1e9


def ours(op: Conv2d, threads: int, zeros: float, repeats: int) -> dict[str, list[float]]:
    """Return samples of every primitive, each checked against float64."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(op.in_shape).astype(np.float32)
    dense = rng.standard_normal(op.weight_shape).astype(np.float32)
    pruned = np.where(rng.random(dense.shape) < zeros, 0, dense)
    cases = [(p, "dense", dense) for p in ("direct", "gemm", "spatial-pack", "winograd")]
    cases += [(p, "csr", pruned) for p in ("direct", "gemm", "spatial-pack")]
    samples = {}
    for primitive, storage, weight in cases:
        try:
            built = build_conv2d(op, weight, primitive=primitive, weights=storage, threads=threads)
        except UnsupportedError:
            continue
        exact = reference.conv2d(op, x, weight)
        bound = reference.WINOGRAD_BOUND if primitive == "winograd" else reference.DIRECT_BOUND
        if not (np.abs(built(x) - exact.y) <= bound * exact.magnitude).all():
            print(f"  {primitive} {storage}: WRONG; not timed")
            continue
        samples[f"{primitive} {storage}"] = built.samples(x, repeats=repeats)
    return samples


def chained(op: Conv2d, name: str, threads: int, repeats: int) -> float | None:
    """Return a peer's seconds for the layer in a chain; None: the layer changes its shape."""
    import torch

    if op.in_shape != op.out_shape or op.padding[:2] != op.padding[2:]:
        return None
    x = np.random.default_rng(0).standard_normal(op.in_shape).astype(np.float32)
    best = {}
    for count in (1, 9):
        model = torch.nn.Sequential(
            *(
                torch.nn.Conv2d(
                    op.in_channels, op.out_channels, op.kernel, op.stride, op.padding[:2],
                    op.dilation, op.groups,
                )
                for _ in range(count)
            )
        ).eval()  # fmt: skip
        run = PEERS[name](model, x, threads)
        run(x)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            run(x)
            seconds.append(time.perf_counter() - start)
        best[count] = min(seconds)
    return (best[9] - best[1]) / 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--peers", nargs="*", default=["onnxruntime", "openvino", "ncnn"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--zeros", type=float, default=0.9)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--limit", type=int, help="only the first so many layers")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for op in layers(options.models, options.size)[: options.limit]:
        top = ceiling()
        samples = ours(op, options.threads, options.zeros, options.repeats)
        top = max(top, ceiling()) * options.threads
        print(f"{op.in_shape} -> {op.out_channels}, {op.kernel}, stride {op.stride}, "
              f"groups {op.groups}; ceiling {top:.0f} GFLOP/s")  # fmt: skip
        best = {name: min(seconds) for name, seconds in samples.items()}
        for name in options.peers:
            seconds = chained(op, name, options.threads, options.repeats)
            if seconds is not None:
                best[name] = seconds
        for name, seconds in best.items():
            rate = 2 * op.multiplications / seconds / 1e9
            print(f"  {name:22s} {1e3 * seconds:8.3f} ms {rate:7.0f} GFLOP/s {rate / top:6.2f}")
        rows.append({"op": str(op), "ceiling": top, "samples": samples, "best": best})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
