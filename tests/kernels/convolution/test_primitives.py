"""A primitive is one file and one line of the list: neither without the other."""

import pytest

pytest.importorskip("tvm")

from importlib import import_module
from pathlib import Path

from dlas.kernels import Conv2d
from dlas.kernels.convolution import primitives
from dlas.kernels.convolution.contract import Primitive
from dlas.kernels.ground.target import resolve

FOLDER = Path(primitives.__file__).parent
OPERATOR = Conv2d(1, 16, 14, 14, 32, (3, 3), padding=(1, 1, 1, 1))


def _in(file: str) -> Primitive | None:
    return getattr(import_module(f"dlas.kernels.convolution.{file}"), "PRIMITIVE", None)


def test_the_list_names_the_files_that_hold_a_primitive() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert {file for file in files if _in(file) is not None} == set(primitives.FILES)


def test_no_primitive_takes_the_name_of_another() -> None:
    assert len(primitives.PRIMITIVES) == len(primitives.FILES)


@pytest.mark.parametrize("file", primitives.FILES)
@pytest.mark.parametrize("target", ["x86-64-v4", "aarch64"])
def test_each_can_be_tuned_or_says_that_it_cannot(file: str, target: str) -> None:
    primitive, cpu = _in(file), resolve(target)
    assert primitive is not None
    how = OPERATOR, primitive.name, primitive.weights, cpu, 2
    space = primitives.plain_kernel(*how).space()
    assert (space is None) == (file == "native")
    for setting in space.settings[:2] if space else ():
        # What a kernel makes of a setting of its own space is that setting.
        again = primitives.plain_kernel(*how, setting).space()
        assert again is not None
        assert again.fixed == setting.as_dict()
