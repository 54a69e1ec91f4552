"""Tuning of a whole model: each distinct convolution once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dlas.kernels.choose import Choice
from dlas.kernels.errors import UnsupportedError
from dlas.kernels.graph import Graph
from dlas.kernels.tuning import Task, Tuner, Tuning, check_primitive, knobs_of, summary, zeros_of


def tune_choices(
    graph: Graph, choices: Mapping[str, Choice], tuner: Tuner, threads: int, written: int
) -> dict[str, Choice]:
    """Return the choices with what tuning found for each convolution; linear layers stay fixed.

    Raises:
        UnsupportedError: there is nothing to tune, or the scheduler cannot tune a choice.
    """
    tuned = dict(choices)
    trials = 0
    for node in graph.nodes:
        if node.op != "conv2d":
            continue
        choice = choices[node.name]
        check_primitive(tuner.tuning, choice.primitive, choice.weights)
        zeros = zeros_of(node.attrs["weight"], choice.weights)
        task = Task(node.attrs["conv"], choice.primitive, choice.weights, threads, written, zeros)
        if tuner.tuning.scheduler == "metaschedule":
            activation, residual = node.attrs["activation"], len(node.inputs) > 1
            task = replace(task, activation=activation, residual=residual)
        record = tuner.best(task)
        trials += record["trials"]
        tuned[node.name] = choice._replace(
            knobs=knobs_of(record), tuning=summary(tuner.tuning, record)
        )
    if not trials:
        raise UnsupportedError(nothing(tuner.tuning))
    return tuned


def nothing(tuning: Tuning) -> str:
    """Return the sentence for a model none of whose operators can be tuned."""
    return (
        f"{tuning.scheduler} has nothing to tune: no convolution runs by a primitive that leaves "
        "anything open"
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
