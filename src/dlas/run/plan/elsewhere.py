"""Stacks whose software runs in another interpreter: what that must have, and what it lacks."""

from __future__ import annotations

from dlas.core.protocols import Refusal, Software, Techniques, unavailable
from dlas.run.plan.identities import int8_by
from dlas.run.process.interpreters import Interpreter, Interpreters, not_looked_at


def needed(techniques: Techniques) -> tuple[str, ...]:
    """Return the modules with which a stack's software builds and runs."""
    software = techniques.software
    quantized = techniques.precision == "int8" and not techniques.left_to_runtime
    # Software that takes torch modules reads the shared quantized model, an ONNX file, itself.
    read = ("onnx",) if quantized and software.form != "onnx" else ()
    return tuple(dict.fromkeys((*software.needs(), *read)))


def interpreter_of(software: Software, known: Interpreters) -> Interpreter | None:
    """Return where software runs, as far as that is known; None: in dlas's own interpreter."""
    python = software.python
    if not python:
        return None
    return known[python] if python in known else not_looked_at(python, software.libraries)


def lacking(techniques: Techniques, interpreter: Interpreter) -> Refusal | None:
    """Refuse another interpreter that lacks something, or that has nothing to quantize with."""
    software = techniques.software
    if said := interpreter.lacks(software.python, needed(techniques)):
        return unavailable(said)
    by = int8_by(techniques)
    if interpreter.asked and by and by not in interpreter.versions:
        return unavailable(
            f"{software.python} lacks {by}, by which {software.name} quantizes: install it "
            "there with pip"
        )
    return None
