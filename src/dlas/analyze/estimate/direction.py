"""Whether more or less of a metric is better, by its name."""

from __future__ import annotations

import re

_MORE = frozenset((
    "fps", "qps", "ips", "tps", "rps", "throughput", "bandwidth", "rate", "rates",
    "accuracy", "acc", "top", "top1", "top5", "recall", "f1", "auc", "auroc", "map", "ap",
    "miou", "iou", "dice", "bleu", "rouge", "psnr", "ssim", "score", "scores", "speedup",
    "speedups", "efficiency", "utilization", "utilisation", "speed", "goodput", "reward",
    "agreement", "hz",
))  # fmt: skip
_LESS = frozenset((
    "s", "ms", "us", "ns", "sec", "secs", "second", "seconds", "msec", "usec",
    "millisecond", "milliseconds", "microseconds", "nanoseconds", "min", "mins", "minute",
    "minutes", "h", "hour", "hours", "time", "times", "latency", "latencies", "delay",
    "duration", "runtime", "elapsed", "wall", "cycles", "ticks", "loss", "losses", "error",
    "errors", "err", "perplexity", "ppl", "wer", "cer", "mse", "rmse", "mae", "drop",
    "flips", "memory", "mem", "ram", "rss", "vram", "footprint", "size", "bytes", "kb",
    "mb", "gb", "kib", "mib", "gib", "params", "parameters", "macs", "gmacs", "mmacs",
    "flop", "energy", "joule", "joules", "j", "mj", "uj", "power", "watt", "watts", "w",
    "mw", "cost", "costs", "price", "usd", "dollars", "overhead", "jitter", "regret",
    "miss", "misses", "faults", "stalls", "ttft", "tpot",
))  # fmt: skip
_SECONDS = r"(s|ms|us|sec|secs|second|seconds|min|minute|h|hr|hour|cycle|clock|watt|w|joule|j)"
_PER_TIME = re.compile(rf"(per[_ ]?{_SECONDS}|/ ?{_SECONDS})($|[^a-z])", re.IGNORECASE)
_PER = re.compile(r"(^|[\W_])per([\W_]|$)|/", re.IGNORECASE)


def more_is_better(metric: str) -> bool | None:
    """Say what a metric's name tells: True for a rate or a score, False for a cost, else None.

    Something per time is a rate, whatever it is; time or energy per something is a cost; an
    error rate is a cost. Else the last word of the name that is known decides.
    """
    if _PER_TIME.search(metric):
        return not _words(_PER_TIME.split(metric)[0]) & {"error", "errors", "faults", "misses"}
    head = _PER.split(metric)[0] if _PER.search(metric) else metric
    known = [w for w in _in_order(head) if w in _MORE | _LESS]
    if not known:
        return None
    words = set(known)
    if words & {"error", "errors", "err", "loss", "losses", "drop", "miss", "misses"}:
        return False
    if known[-1] in ("rate", "rates") and len(known) > 1:
        return known[-2] in _MORE
    return known[-1] in _MORE


def _in_order(name: str) -> list[str]:
    """Return the words of a name, of ``camelCase`` too."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [w for w in re.split(r"[\W_]+", spaced.lower()) if w]


def _words(name: str) -> set[str]:
    return set(_in_order(name))
