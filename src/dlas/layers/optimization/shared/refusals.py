"""The rules of order that optimizations share: what can follow what, and on which model."""

from __future__ import annotations

from typing import Any

from dlas.core.errors import StepError
from dlas.core.protocols import (
    Network,
    Optimization,
    Precision,
    Refusal,
    Techniques,
    impossible,
    unavailable,
)


def refuse_second_precision(technique: Optimization, stack: Techniques) -> Refusal | None:
    """Refuse where the model comes in a narrow type, or an earlier step asks for one."""
    asked, stored = technique.precision, stack.model.stored_precision()
    if asked is not None and (said := _narrow_already(asked, stored)):
        return said
    earlier = _earlier_precision(technique, stack)
    if earlier is None:
        return None
    return impossible(
        f"a network is stored and run in one precision, and this pipeline asks for two: "
        f"{earlier.precision}, then {technique.precision}. Keep one of them."
    )


def _narrow_already(asked: Precision, stored: Precision) -> Refusal | None:
    """Refuse to make a network ``asked`` whose file is not float32, None: it is."""
    if stored == "float32":
        return None
    way_out = "Take optimization `none`, which measures the file as it is"
    if stored == "int8":
        return impossible(
            f"the model is quantized already: its file holds int8 weights and ranges, so there is "
            f"nothing left for {asked} to do. {way_out}, or give its float32 file."
        )
    if asked == stored:
        return impossible(f"the model is {stored} already, as its file is written. {way_out}.")
    return unavailable(
        f"{asked} starts from float32, and the model's file is {stored}: not implemented. "
        f"{way_out}, or give its float32 file."
    )


def refuse_without_module(technique: Optimization, stack: Techniques) -> Refusal | None:
    """Refuse for what fine-tunes a float32 torch module, where there is none at its place."""
    if stack.model.form == "onnx":
        return unavailable(
            f"{technique.name} fine-tunes a torch module, and the model is an ONNX file: "
            f"not implemented. Give the model as torch or timm, or leave {technique.name} out."
        )
    earlier = _earlier_precision(technique, stack)
    if earlier is not None:
        return unavailable(
            f"{technique.name} fine-tunes in float32, and the step before it has made the network "
            f"{earlier.precision}: not implemented. Write {technique.name} before {earlier.name}."
        )
    return None


def float32_module(technique: Optimization, network: Network) -> Any:
    """Return the module of a float32 network.

    Raises:
        StepError: there is none, or a step before has given up float32.
    """
    if network.precision != "float32":
        raise StepError(
            f"{technique.name} needs a float32 network, and got a {network.precision} one"
        )
    if network.module is None:
        raise StepError(f"{technique.name} needs a torch module, and got an ONNX file")
    return network.module


def _earlier_precision(technique: Optimization, stack: Techniques) -> Optimization | None:
    """Return the step before ``technique`` that asks for a precision, if there is one."""
    for step in stack.optimization:
        if step is technique:
            break
        if step.precision is not None:
            return step
    return None
