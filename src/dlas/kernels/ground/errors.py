"""The errors of `dlas.kernels`.

KernelError
 ├─ UnsupportedError (ValueError)      this operator, algorithm or graph cannot be built: says why
 ├─ InputError (ValueError)            an array that does not fit the kernel it was given to
 └─ MissingFeatureError (RuntimeError) the CPU lacks instructions that the code was built for
"""

import difflib
from collections.abc import Iterable


class KernelError(Exception):
    """Any failure that `dlas.kernels` explains itself."""


class UnsupportedError(KernelError, ValueError):
    """What was asked cannot be built; the message holds the rule and what came."""


class InputError(KernelError, ValueError):
    """An array's shape or type does not fit the kernel."""


class MissingFeatureError(KernelError, RuntimeError):
    """This CPU lacks instructions that the saved code needs."""


def near(name: object, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known names close to `name`, else nothing."""
    close = difflib.get_close_matches(str(name), sorted(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
