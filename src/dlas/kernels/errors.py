"""The errors of `dlas.kernels`.

KernelError
 ├─ UnsupportedError (ValueError)      this operator, algorithm or graph cannot be built: says why
 ├─ InputError (ValueError)            an array that does not fit the kernel it was given to
 └─ MissingFeatureError (RuntimeError) the CPU lacks instructions that the code was built for
"""


class KernelError(Exception):
    """Any failure that `dlas.kernels` explains itself."""


class UnsupportedError(KernelError, ValueError):
    """What was asked cannot be built; the message holds the rule and what came."""


class InputError(KernelError, ValueError):
    """An array's shape or type does not fit the kernel."""


class MissingFeatureError(KernelError, RuntimeError):
    """This CPU lacks instructions that the saved code needs."""
