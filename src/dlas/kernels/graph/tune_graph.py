"""Tuning of a whole model: each distinct convolution once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dlas.kernels.convolution import matrix
from dlas.kernels.graph.calls import as_conv2d
from dlas.kernels.graph.choose import Chosen
from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.tune.tuner import (
    Task,
    Tuner,
    Tuning,
    check_primitive,
    knobs_of,
    summary,
    zeros_of,
)


def tune_choices(
    graph: Graph, choices: Mapping[str, Chosen], tuner: Tuner, threads: int, written: int
) -> dict[str, Chosen]:
    """Return the choices with what tuning found for each operator.

    Linear layers stay fixed where they have no knobs (CSR), where the model was asked to run by
    TVM's own definitions, and with MetaSchedule, which is for convolutions.

    Raises:
        UnsupportedError: there is nothing to tune, or the scheduler cannot tune a choice.
    """
    tuned = dict(choices)
    trials = 0
    for node in graph.nodes:
        task = _task(graph, node, choices.get(node.name), tuner.tuning, (threads, written))
        if task is None:
            continue
        record = tuner.best(task)
        trials += record["trials"]
        tuned[node.name] = choices[node.name]._replace(
            knobs=knobs_of(record), tuning=summary(tuner.tuning, record)
        )
    if not trials:
        raise UnsupportedError(nothing(tuner.tuning))
    return tuned


def _task(
    graph: Graph, node: Node, choice: Chosen | None, tuning: Tuning, threads: tuple[int, int]
) -> Task | None:
    """Return what is tuned for an operator; None: nothing."""
    automatic = tuning.scheduler == "metaschedule"
    if choice is None:
        return None
    if node.op == "linear":
        if automatic or choice.weights != "dense" or choice.asked == "native":
            return None
        op = as_conv2d(graph, node)
        return Task(op, matrix.NAME, choice.weights, *threads, dtype=node.dtype)
    check_primitive(tuning, choice.primitive, choice.weights, node.dtype)
    op = node.attrs["conv"]
    zeros = zeros_of(op, node.attrs["weight"], choice.weights, node.dtype)
    task = Task(op, choice.primitive, choice.weights, *threads, zeros, dtype=node.dtype)
    if automatic:
        activation, residual = node.attrs["activation"], len(node.inputs) > 1
        task = replace(task, activation=activation, residual=residual)
    return task


def nothing(tuning: Tuning) -> str:
    """Return the sentence for a model none of whose operators can be tuned."""
    return (
        f"{tuning.scheduler} has nothing to tune: no operator runs by a kernel that leaves "
        "anything open to it"
    )


def counted(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return trials, lost trials and seconds over the operators of a model, each record once."""
    distinct: dict[str, dict[str, Any]] = {}
    for record in records:
        if said := record.get("tuning"):
            distinct.setdefault(said["record"], said)  # equal shapes below find it in the store
    return {
        "records": len(distinct),
        "reused": sum(t["reused"] for t in distinct.values()),
        "trials": sum(t["trials"] for t in distinct.values()),
        "lost": sum(t["lost"] for t in distinct.values()),
        "seconds": round(sum(t["seconds"] for t in distinct.values() if not t["reused"]), 3),
    }
