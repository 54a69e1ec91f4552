"""Refusals that several runtimes share, each a question to the other layers of a stack."""

from __future__ import annotations

from dlas.core.protocols import Refusal, Techniques, unavailable


def own_algorithm(stack: Techniques, runtime: str) -> Refusal | None:
    """Refuse an algorithm that names kernels: the runtime gives its user no choice of them."""
    if getattr(stack.algorithm, "chooses", True):
        return unavailable(
            f"{runtime} offers no way to choose the algorithm of a convolution, so "
            f"{type(stack.algorithm).name!r} cannot be asked of it"
        )
    return None


def cpu_only(stack: Techniques, runtime: str) -> Refusal | None:
    """Refuse any device but the CPU."""
    if stack.hardware.device != "cpu":
        return unavailable(f"{runtime} on {stack.hardware.device} is not implemented in dlas")
    return None


def native_isa(stack: Techniques, runtime: str, why: str) -> Refusal | None:
    """Refuse an instruction set other than the runtime's own choice, with the reason ``why``."""
    if stack.hardware.isa != "native":
        return unavailable(f"{runtime} cannot be held to {stack.hardware.isa}: {why}")
    return None


def shared_int8(stack: Techniques, runtime: str) -> Refusal | None:
    """Refuse the shared quantized model, for a runtime that has int8 of its own alone."""
    if stack.precision == "int8" and not stack.left_to_runtime:
        return unavailable(
            "nothing reads the shared quantized model, which is an ONNX file, into "
            f"{runtime}: take int8: {{route: own}}, its own quantization"
        )
    return None


def torch_model(stack: Techniques, runtime: str) -> Refusal | None:
    """Refuse a model that exists only as an ONNX file."""
    if stack.model.form == "onnx":
        return unavailable(
            f"{runtime} takes torch modules; reading an ONNX file into one is not implemented"
        )
    return None
