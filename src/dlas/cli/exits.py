"""From what a command raises to what is said and the exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

from dlas.core.errors import DlasError
from dlas.kernels import KernelError

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def guarded(app: Callable[..., object], arguments: Sequence[str]) -> int:
    """Run a command line; ``--debug`` anywhere in it shows tracebacks.

    Returns 0, or 2 where the user or the disk is at fault, 1 for a bug of ours, 130 when
    interrupted; what went wrong is on standard error.
    """
    debug = "--debug" in arguments
    given = [each for each in arguments if each != "--debug"]
    try:
        with _output():
            app(args=given, prog_name="dlas")
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except (DlasError, KernelError) as error:
        return _fail(str(error), 2, debug)
    except OSError as error:
        if error.errno in _DISK:
            return _fail(f"{error.filename or 'the disk'}: {error.strerror}", 2, debug)
        return _bug(error, debug)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, False)
    except Exception as error:
        return _bug(error, debug)
    return 0


@contextlib.contextmanager
def _output() -> Iterator[None]:
    """Let a reader who has seen enough (``dlas table | head``) close the pipe."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more at exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"{message}\n")
    return code


def _bug(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    last = traceback.extract_tb(error.__traceback__)[-1]
    sys.stderr.write(
        f"dlas has a bug: {type(error).__name__}: {error} ({last.filename}:{last.lineno})\n"
        "Please report it with the output of the same command and --debug "
        "(CONTRIBUTING.md says where).\n"
    )
    return 1
