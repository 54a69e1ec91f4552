"""What every algorithm promises."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import SkipTest

from dlas.core.protocols import KernelChoice
from dlas.testing.check import Suite
from dlas.testing.every import stacks

if TYPE_CHECKING:
    from dlas.kernels.convolution.contract import Primitive
    from dlas.kernels.ground.shape import Conv2d

TARGETS = ("native", "x86-64-v3")


def operators() -> dict[str, Conv2d]:
    """Return one convolution of each kind that networks have, by name."""
    from dlas.kernels.ground.shape import Conv2d

    same, batch, size = (1, 1, 1, 1), 1, (14, 14)
    return {
        "first layer": Conv2d(batch, 3, *size, 16, (3, 3), padding=same),
        "3x3": Conv2d(batch, 16, *size, 32, (3, 3), padding=same),
        "3x3 of stride 2": Conv2d(batch, 16, *size, 32, (3, 3), (2, 2), same),
        "dilated 3x3": Conv2d(batch, 16, *size, 16, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2)),
        "1x1": Conv2d(batch, 32, *size, 16, (1, 1)),
        "depthwise 3x3": Conv2d(batch, 32, *size, 32, (3, 3), padding=same, groups=32),
        "5x5": Conv2d(batch, 16, *size, 16, (5, 5), padding=(2, 2, 2, 2)),
        "linear": Conv2d(1, 64, 1, 1, 10, (1, 1)),
    }


def _answers(suite: Suite) -> dict[tuple[str, str], KernelChoice | str | None]:
    suite.needs("tvm_ffi")

    def ask() -> dict[tuple[str, str], KernelChoice | str | None]:
        asked = operators()
        return {
            (name, target): suite.technique.kernel(operator, target)
            for name, operator in asked.items()
            for target in TARGETS
        }

    return suite.once("answers", ask)


def _choice(answer: KernelChoice | str) -> KernelChoice:
    return KernelChoice(answer) if isinstance(answer, str) else answer


def every_answer_is_a_kernel_or_none(suite: Suite) -> None:
    """``kernel`` answers a name, a KernelChoice or None for any operator, and the same twice."""
    asked = operators() if _answers(suite) else {}
    for (name, target), said in _answers(suite).items():
        good = said is None or isinstance(said, str | KernelChoice)
        suite.demand(good, f"kernel({name}, {target}) is {said!r}: needed a KernelChoice or None")
        again = suite.technique.kernel(asked[name], target)
        suite.demand(again == said, f"kernel({name}, {target}) is {said!r}, then {again!r}")
        if said is not None:
            choice = _choice(said)
            suite.demand(0 <= choice.threshold <= 1, f"{name}: threshold {choice.threshold}")


def it_names_kernels_exactly_if_it_chooses(suite: Suite) -> None:
    """``chooses`` is true of what names a kernel for some operator, false of what names none."""
    named = [name for (name, _), said in _answers(suite).items() if said is not None]
    if suite.technique.chooses:
        suite.demand(named, "chooses is True and it names a kernel for no operator")
    else:
        suite.demand(not named, f"chooses is False and it names kernels for {', '.join(named)}")


def what_it_names_exists(suite: Suite) -> None:
    """Each kernel is a primitive of ``dlas.kernels`` that stores weights in the way asked for."""
    from dlas.kernels import KernelError

    _accepted(suite)
    for (name, target), said in _answers(suite).items():
        if said is None:
            continue
        try:
            _primitive(said, operators()[name])
        except KernelError as error:
            raise AssertionError(
                f"algorithm {suite.name!r}: kernel({name}, {target}) is {said!r}: {error}"
            ) from error


def what_it_names_can_do_an_operator(suite: Suite) -> None:
    """For some operator the kernel that it names can do the work; else all would be fallbacks."""
    _accepted(suite)
    asked = operators() if _answers(suite) else {}
    said = [
        _primitive(answer, asked[name]).why_not(asked[name])
        for (name, _), answer in _answers(suite).items()
        if answer is not None
    ]
    if suite.technique.chooses:
        suite.demand(None in said, f"what it names can do none of the operators: {said[:1]}")


def what_it_names_computes_the_convolution(suite: Suite) -> None:
    """The kernel that it names gives the convolution's outputs (float64 reference)."""
    import numpy as np

    from dlas.kernels import build_conv2d
    from dlas.kernels.convolution.oracle import WINOGRAD_BOUND, conv2d

    _accepted(suite)
    asked = operators() if _answers(suite) else {}
    for (name, target), answer in _answers(suite).items():
        if answer is None or _primitive(answer, asked[name]).why_not(asked[name]):
            continue
        operator, choice = asked[name], _primitive(answer, asked[name])
        random = np.random.default_rng(0)
        x = random.standard_normal(operator.in_shape).astype(np.float32)
        weight = random.standard_normal(operator.weight_shape).astype(np.float32)
        weight[random.random(weight.shape) < 0.5] = 0
        built = build_conv2d(
            operator, weight, primitive=choice.name, weights=choice.weights, target=target
        )
        exact = conv2d(operator, x, weight)
        error = float((np.abs(built(x) - exact.y) / exact.magnitude.max()).max())
        suite.demand(error <= WINOGRAD_BOUND, f"{name}: {choice}: the error is {error:.3g}")
        return  # one is enough: the kernels have tests of their own


def _primitive(answer: KernelChoice | str, operator: Conv2d) -> Primitive:
    """Return the primitive that is named; for ``best`` the one of the fixed rule."""
    from dlas.kernels.convolution import primitives
    from dlas.kernels.graph.choose import BESTS, by_rule

    choice = _choice(answer)
    name = choice.primitive
    if name in BESTS:
        name = by_rule(operator, choice.weights)
    return primitives.find(name, choice.weights)


def _accepted(suite: Suite) -> None:
    """Skip where its rules let it stand in no stack: then nothing is asked of what it names."""
    said = [suite.technique.why_not(stack) for stack in stacks(suite)]
    if None not in said:
        raise SkipTest(f"its rules refuse every stack: {said[0]}")


ALGORITHM = (
    every_answer_is_a_kernel_or_none,
    it_names_kernels_exactly_if_it_chooses,
    what_it_names_exists,
    what_it_names_can_do_an_operator,
    what_it_names_computes_the_convolution,
)
