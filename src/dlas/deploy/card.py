"""What is said of an exported stack: ``stack.json`` for programs, ``README.md`` for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dlas import __version__
from dlas.core.clock import now
from dlas.core.keys import Json
from dlas.core.stack import LAYERS, TITLES
from dlas.deploy.picked import Located, again
from dlas.deploy.shipping import Deployment
from dlas.run.measure.verdict import ABSOLUTE, ABSOLUTE_OF_LARGEST, TOLERANCES

FORMAT = 1
"""Version of ``stack.json``."""
NUMBERS = (
    "latency_ms", "latency_low_ms", "latency_high_ms", "latency_p90_ms", "quiet_ms",
    "quiet_low_ms", "quiet_high_ms", "first_inference_ms", "load_ms", "import_s", "memory_mb",
    "weights_mb", "artifact_mb", "params", "nonzero_params", "macs",
    "accuracy", "accuracy_low", "accuracy_high", "accuracy_n", "accuracy_drop", "flips",
    "max_abs_error", "energy_mj", "rounds", "samples", "unsteady",
)  # fmt: skip
"""The columns of ``dlas table`` that are told; the same numbers, all digits."""
ACCURACY = "accuracy"
AGREEMENT = "agreement with the original network's labels"
"""What stands in the place of accuracy where a data set has no labels."""
RAN = ("ran_precision", "ran_threads", "ran_cpus", "ran_isa", "fallbacks", "ran_sparsity")
HOST = (
    "cpu", "cores", "cores_allowed", "memory_gib", "os", "distribution", "virtualization",
    "governor", "turbo", "python",
)  # fmt: skip


def card(
    picked: Located,
    deployment: Deployment,
    *,
    shape: Sequence[int],
    labels: Sequence[str],
    labelled: bool,
    preprocessing: Mapping[str, Any] | None,
    environment: Mapping[str, str],
    versions: Mapping[str, str],
    precision: str,
) -> dict[str, Any]:
    """Return ``stack.json`` but for the hashes of the files."""
    row, stack = picked.row, picked.stack
    return {
        "format": FORMAT,
        "cell": picked.cell,
        "study": row["study"],
        "dlas": __version__,
        "exported_at": now(),
        "stack": {layer: stack.text(layer) for layer in LAYERS},
        "choices": stack.to_json(),
        "precision": precision,
        "input": {"shape": list(shape), "type": "float32", "layout": "NCHW"},
        "labels": list(labels),
        "accuracy_is": ACCURACY if labelled else AGREEMENT,
        "preprocessing": None if preprocessing is None else dict(preprocessing),
        "runtime": {
            "name": stack.software[0].name,
            "settings": dict(deployment.settings),
            "environment": dict(environment),
            "threads": stack.hardware[0].params.get("threads", 1),
            "python": versions["python"],
            "distributions": {n: v for n, v in versions.items() if n != "python"},
        },
        "tolerance": tolerance(precision),
        "numbers": {name: _plain(row.get(name)) for name in NUMBERS},
        "ran": {name.removeprefix("ran_"): _plain(row.get(name)) for name in RAN},
        "conditions": {
            "measured_at": _plain(row.get("created_at")),
            "host": row["host"],
            **{name: picked.host.get(name) for name in HOST},
            "libraries": {n: v for n, v in picked.host.get("libraries", {}).items() if v},
        },
        "artefact": picked.content,
        "reproduce": again(picked.folder, picked.cell, remeasure=True),
    }


def tolerance(precision: str) -> dict[str, float]:
    """Return by how much outputs of a type may differ (:mod:`dlas.run.measure.verdict`)."""
    narrow = TOLERANCES.get(precision)
    if narrow is None:
        return {"absolute": ABSOLUTE, "of_largest": ABSOLUTE_OF_LARGEST}
    return {"relative": narrow.relative}


def _plain(value: Any) -> Json:
    """Return a value of a table as JSON; what is missing or not finite becomes None."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str) else None


# ---------------------------------------------------------------- for people


def readme(told: Mapping[str, Any]) -> str:
    """Return ``README.md`` of what :func:`card` says."""
    runtime, batch = told["runtime"], told["input"]["shape"][0]
    layers = [f"| {TITLES[layer]} | `{told['stack'][layer]}` |" for layer in LAYERS]
    needs = ", ".join(f"{name} {version}" for name, version in runtime["distributions"].items())
    return "\n".join([
        f"# {told['stack']['model']} on {told['stack']['software']}",
        "",
        f"Exported by dlas {told['dlas']} from cell `{told['cell']}` of the study "
        f"`{told['study']}`. It runs without dlas.",
        "",
        "```",
        "python3 -m venv venv && venv/bin/pip install -r requirements.txt",
        "venv/bin/python verify.py             # same files, same outputs, latency here and there",
        "venv/bin/python predict.py IMAGE...   # the label of each image",
        "```",
        "",
        "From Python: `from predict import predict; predict([\"image.jpg\"])`. "
        f"Needs Python {'.'.join(runtime['python'].split('.')[:2])} and {needs}.",
        "",
        "## The stack",
        "",
        "| layer | choice |",
        "| --- | --- |",
        *layers,
        "",
        "## The numbers",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {text} |" for name, text in _told(told["numbers"], told["accuracy_is"])),
        "",
        "## Their conditions",
        "",
        *(f"- {line}" for line in _conditions(told, batch)),
        "",
        "## What was read",
        "",
        *(f"- {line}" for line in _inputs(told)),
        "",
    ])  # fmt: skip


def _told(numbers: Mapping[str, Any], accuracy: str) -> list[tuple[str, str]]:
    """Return the numbers that were measured, named and with their units and intervals."""
    n = numbers
    found = [
        ("latency of one inference", _within(n, "latency_ms", "latency_low_ms", "latency_high_ms",
                                             " ms")),
        ("latency, 90 % of the inferences", _number(n["latency_p90_ms"], " ms")),
        ("latency, undisturbed", _within(n, "quiet_ms", "quiet_low_ms", "quiet_high_ms", " ms")),
        ("first inference", _number(n["first_inference_ms"], " ms")),
        ("loading", _number(n["load_ms"], " ms")),
        ("memory beyond the runtime's own", _number(n["memory_mb"], " MB")),
        ("weights", _number(n["weights_mb"], " MB")),
        ("artefact on disk", _number(n["artifact_mb"], " MB")),
        (accuracy, _within(n, "accuracy", "accuracy_low", "accuracy_high", "")),
        (f"{accuracy}, less than the original's", _number(n["accuracy_drop"], "")),
        ("images with another label than the original network's", _number(n["flips"], "")),
        ("energy of one inference", _number(n["energy_mj"], " mJ")),
    ]  # fmt: skip
    return [(name, text) for name, text in found if text]


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.4g}{unit}"


def _within(numbers: Mapping[str, Any], name: str, low: str, high: str, unit: str) -> str:
    text = _number(numbers[name], unit)
    if not text or numbers[low] is None or numbers[high] is None:
        return text
    return f"{text} (95 % interval {numbers[low]:.4g} to {numbers[high]:.4g}{unit})"


def _conditions(told: Mapping[str, Any], batch: int) -> list[str]:
    where, numbers, runtime = told["conditions"], told["numbers"], told["runtime"]
    threads = runtime["threads"]
    lines = [
        f"{where['cpu']}, {where['cores_allowed'] or where['cores']} cores, "
        f"{where['memory_gib']} GiB, {where['distribution'] or where['os']}; another machine "
        "gives other numbers: `verify.py` says which",
        f"{threads} {'thread' if threads == 1 else 'threads'}, {batch} "
        f"{'image' if batch == 1 else 'images'} an inference, real images in turn, from a float32 "
        "array to a float32 array; decoding and resizing are not in it",
        f"{numbers['rounds']} rounds, {numbers['samples']} inferences timed, "
        f"{where['measured_at']}" + (", unsteady" if numbers["unsteady"] else ""),
        "; ".join(f"{name} {version}" for name, version in where["libraries"].items()),
    ]
    if numbers["accuracy_n"]:
        lines.append(
            f"{told['accuracy_is']}: on {numbers['accuracy_n']} test images, a fixed subset; its "
            "interval is Wilson's"
        )
    if told["ran"]["precision"]:
        lines.append(f"what ran, read back from the runtime: {told['ran']['precision']}")
    return [line for line in lines if line]


def _inputs(told: Mapping[str, Any]) -> list[str]:
    names, asked = told["labels"], told["preprocessing"]
    lines = [f"inputs are {told['input']['type']} {tuple(told['input']['shape'])}, NCHW"]
    if asked is None:
        lines.append("the data set says no preprocessing: `predict.py` takes arrays (.npy)")
    else:
        lines.append(
            f"images: {'grey' if asked['channels'] == 1 else 'RGB'}, the shorter side resized to "
            f"{asked['resize'] or asked['size']} ({asked['interpolation']}), the middle "
            f"{asked['size']} x {asked['size']}, scaled to 0..1, less {list(asked['mean'])}, over "
            f"{list(asked['std'])}"
        )
    lines.append(f"labels: {', '.join(names)}" if names else "labels: the numbers of the classes")
    return lines
