"""CSR weights: what the algorithms that store them have in common."""

from __future__ import annotations

from dlas.protocols import Refusal, Techniques, impossible


def refuse_without_zeros(stack: Techniques, threshold: float) -> Refusal | None:
    """Refuse CSR where no layer can have zeros enough to be stored so.

    Zeros come from an optimization, or with the weights that the user gives a model. Threshold 0
    stores every layer in CSR, zeros or not: there is nothing to refuse then.
    """
    brought = any(getattr(stack.model, place, "") for place in _places(stack))
    if threshold == 0 or stack.sparse or brought:
        return None
    return impossible(
        "CSR stores the weights that are not zero, and nothing in this stack makes weights zero: "
        f"no layer can reach the threshold of {threshold:.0%} zeros from which it is stored so. "
        "Prune the weights, or ask for threshold: 0 to store dense weights in CSR all the same."
    )


def _places(stack: Techniques) -> tuple[str, ...]:
    places: tuple[str, ...] = getattr(stack.model, "places", ())
    return places
