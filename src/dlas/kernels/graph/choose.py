"""Which algorithm each operator runs by: from what the caller asked to one choice an operator."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

from dlas.kernels.convolution import primitives, winograd
from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.graph.weights import skippable
from dlas.kernels.ground.errors import UnsupportedError, near
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.types import SPARSE_INT8, no_csr

Algorithm = str | Mapping[str, str | Mapping[str, Any]]
FALLBACKS = ("spatial-pack", "direct")
"""Tried in this order for an operator that the asked primitive cannot do."""
_KEYS = ("primitive", "weights", "threshold")
_FORM = (
    "a primitive's name, 'best', 'best-by-rule', or {'primitive': name, 'weights': 'dense' or "
    "'csr', 'threshold': share of zeros}"
)

BESTS = ("best", "best-by-rule")
"""`best` starts as the rule says, too: `best.choose_measured` comes after it."""


class Chosen(NamedTuple):
    """What one operator was asked to run by, and what it runs by."""

    asked: str
    primitive: str
    weights: str
    reason: str | None
    """Why something else than what was asked runs; None if it does not."""
    asked_weights: str = "dense"
    knobs: Knobs = FIXED
    """What tuning found; empty: the fixed schedule."""
    tuning: dict[str, Any] | None = None
    """The tuning record that was used."""
    measured: dict[str, Any] | None = None
    """What `best` has measured."""


class Sparsity(NamedTuple):
    """How weights are stored where the caller's map does not say."""

    weights: str = "dense"
    threshold: float = 0.4
    """With `csr`: the share of zeros below which a layer stays dense."""


def choose(graph: Graph, algorithm: Algorithm, sparsity: Sparsity) -> dict[str, Chosen]:
    """Return the choice for each convolution and linear layer, by operator name.

    A map may name operators and `*`, the choice for all others (without it: `best`); a choice is a
    primitive's name or {"primitive": name, "weights": "dense" or "csr", "threshold": share}.

    Raises:
        UnsupportedError: what `read` refuses, or a name that no operator of the graph has.
    """
    nodes = {n.name: n for n in graph.nodes if n.op in ("conv2d", "linear")}
    wanted = read(algorithm, sparsity)
    unknown = sorted(set(wanted) - set(nodes) - {"*"})
    if unknown:
        guess = near(unknown[0], nodes)
        raise UnsupportedError(
            f"no convolution or linear layer is called {', '.join(unknown)}; there are: "
            f"{', '.join(sorted(nodes))}{guess}"
        )
    others = wanted.get("*", ("best", sparsity))
    return {name: _one(node, *wanted.get(name, others)) for name, node in nodes.items()}


def read(algorithm: Algorithm, sparsity: Sparsity) -> dict[str, tuple[str, Sparsity]]:
    """Return the primitive and the storage that are asked for, by operator name or `*`.

    Raises:
        UnsupportedError: another form than `choose` takes, an unknown key or primitive, or a value
            that a key cannot have.
    """
    primitives.check_weights(sparsity.weights)
    share = _share(sparsity.threshold, "csr_threshold")
    sparsity = sparsity._replace(threshold=share)
    if isinstance(algorithm, str):
        return {"*": (_known(algorithm, sparsity.weights), sparsity)}
    if not isinstance(algorithm, Mapping):
        raise UnsupportedError(
            "algorithm must be a primitive's name, 'best', 'best-by-rule', or a map from operator "
            f"('*': all others) to {_FORM}; got {algorithm!r}"
        )
    for name in algorithm:
        if not isinstance(name, str):
            raise UnsupportedError(
                f"algorithm maps from operators' names and '*', which are texts; got {name!r}"
            )
    return {name: _wish(name, asked, sparsity) for name, asked in algorithm.items()}


def _wish(name: str, asked: Any, sparsity: Sparsity) -> tuple[str, Sparsity]:
    """Return one entry of the caller's map, checked."""
    if isinstance(asked, str):
        return _known(asked, sparsity.weights), sparsity
    what = f"algorithm[{name!r}]"
    if not isinstance(asked, Mapping):
        raise UnsupportedError(f"{what} must be {_FORM}; got {asked!r}")
    for key in asked:
        if key not in _KEYS:
            raise UnsupportedError(
                f"{what} has the unknown key {key!r}; known: {', '.join(_KEYS)}{near(key, _KEYS)}"
            )
    primitive = asked.get("primitive", "best")
    if not isinstance(primitive, str):
        raise UnsupportedError(f"{what}: primitive must be a name, got {primitive!r}")
    weights = asked.get("weights", sparsity.weights)
    primitives.check_weights(weights)
    share = _share(asked.get("threshold", sparsity.threshold), f"{what}: threshold")
    return _known(primitive, weights), Sparsity(weights, share)


def _known(name: str, weights: str) -> str:
    """Refuse a primitive that there is not, or not with such weights."""
    if name not in (*BESTS, "native"):
        primitives.find(name, weights)
    return name


def _share(threshold: Any, what: str) -> float:
    """Return a share of zeros as a float."""
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if number and 0 <= threshold <= 1:
        return float(threshold)
    percent = number and 1 < threshold <= 100
    hint = f" (for {threshold} % write {float(threshold) / 100:g})" if percent else ""
    raise UnsupportedError(f"{what} must be a share of zeros from 0 to 1, got {threshold!r}{hint}")


def by_rule(op: Conv2d, weights: str, dtype: str = "float32") -> str:
    """Return the primitive that `best-by-rule` stands for: a fixed rule, no measurement.

    Winograd where it saves most of the multiplications and its filters fit a cache; else
    `spatial-pack`. In narrow types that, too; and what there is for CSR weights.
    """
    if dtype != "float32":
        return SPARSE_INT8[0] if weights == "csr" else FALLBACKS[0]
    if weights == "csr" or winograd.why_not(op) is not None:
        return "spatial-pack"
    channels = (op.in_channels, op.out_channels)
    worth = min(channels) >= 32 and max(channels) <= 256
    large = min(op.out_height, op.out_width) >= 14
    return "winograd" if worth and large else "spatial-pack"


def _refusal(name: str, weights: str, node: Node) -> str | None:
    """Return why a primitive cannot do a convolution, in the type of its weights."""
    try:
        return primitives.find(name, weights, node.dtype).why_not(node.attrs["conv"])
    except UnsupportedError as error:
        return str(error)


def _one(node: Node, asked: str, sparsity: Sparsity) -> Chosen:
    weights, reason = sparsity.weights, None
    has = node.dtype == "float32" or (node.dtype == "int8" and node.op != "linear")
    if weights == "csr" and not has:
        weights, reason = "dense", no_csr(node.dtype)
    if weights == "csr":
        zeros, what = skippable(node)
        if zeros < sparsity.threshold:
            weights = "dense"
            reason = f"{zeros:.0%} {what}, less than the threshold of {sparsity.threshold:.0%}"
    if node.op == "linear":
        return Chosen(asked, "linear", weights, reason, sparsity.weights)
    wanted = asked
    if asked in BESTS:
        wanted = by_rule(node.attrs["conv"], weights, node.dtype)
    for name in (wanted, *FALLBACKS):
        refusal = _refusal(name, weights, node)
        if refusal is None:
            return Chosen(asked, name, weights, reason, sparsity.weights)
        reason = reason or refusal
    raise UnsupportedError(f"{node.name}: {asked}: {reason}; no fallback can do it either")
