"""Contract suites and fakes for authors of techniques.

What a technique of a layer promises stands in :mod:`dlas.protocols`; here it can be checked, with
any test runner::

    import pytest
    from dlas.testing import contract

    CHECKS = contract("optimization", "noise-pruning", sparsity=0.5)

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    def test_noise_pruning_keeps_its_contract(check):
        check()

Listing the checks loads nothing; a check does its work when it is called, and what is costly (a
network, an optimized network, a built artefact) is made once for all checks of one ``contract``. A
broken promise is an ``AssertionError`` that says what is wrong and the value; what this machine
cannot tell (a library or a device is absent) is a ``unittest.SkipTest``, which pytest and unittest
both understand. pytest itself is not needed.

``sampler_contract("my-sampler")`` returns the checks of a sampler (:mod:`dlas.core.sampler`).

Fakes: :class:`SmallImages` and :class:`SmallNet` stand in for a data set and a model,
:func:`stack_of` makes a whole stack around a technique (for rules), :func:`registered` lets dlas
find a technique that no installed package declares.
"""

from __future__ import annotations

from dlas.core.keys import Json
from dlas.testing.by_layer import CHECKS
from dlas.testing.check import Check, Problem, Suite
from dlas.testing.fakes import SmallImages, SmallNet, registered
from dlas.testing.sampler import SamplerCheck
from dlas.testing.sampler import checks as _sampler_checks
from dlas.testing.stand_ins import OwnKernels, PlainRuntime, asking, many_stacks, stack_of

__all__ = [
    "Check",
    "OwnKernels",
    "PlainRuntime",
    "Problem",
    "SmallImages",
    "SmallNet",
    "asking",
    "contract",
    "many_stacks",
    "registered",
    "sampler_contract",
    "stack_of",
]


def contract(
    layer: str, name: str, /, *, on: Problem | None = None, **parameters: Json
) -> list[Check]:
    """Return the checks of a technique, by the name that its entry point (or a study file) says.

    Args:
        layer: ``dataset``, ``model``, ``optimization``, ``algorithm``, ``software``, ``hardware``.
        name: the technique's name; looked up when a check is called.
        on: the data set and model that the suite works on; small ones by default. It is no
            parameter of the technique.
        parameters: the technique's parameters, as in a study file.

    Raises:
        ValueError: there is no such layer.
    """
    if layer not in CHECKS:
        raise ValueError(f"there is no layer {layer!r}; the layers are {', '.join(CHECKS)}")
    return Suite(layer, name, parameters, on).checks(CHECKS[layer])


def sampler_contract(name: str) -> list[SamplerCheck]:
    """Return the checks of a sampler, by the name of its entry point in ``dlas.sampler``.

    Raises:
        UserError: there is none of that name, or what it needs is not installed.
    """
    from dlas.explore.names import find

    return _sampler_checks(find(name))
