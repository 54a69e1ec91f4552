"""From what a command raises to what is said and the exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from dlas.cli.printing import harmless
from dlas.core.errors import DlasError
from dlas.kernels import KernelError

CLOSED = (
    "standard output is closed, so that the answer could not be printed: give it a file or a pipe "
    "(`> answer.txt`)"
)
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def guarded(app: Callable[..., object], arguments: Sequence[str]) -> int:
    """Run a command line; ``--debug`` anywhere in it shows tracebacks.

    Returns 0, or 2 where the user or the disk is at fault, 1 for a bug of ours, 130 when
    interrupted; what went wrong is on standard error.
    """
    debug = "--debug" in arguments
    given = [each for each in arguments if each != "--debug"]
    closed = _streams()
    code = _guarded(app, given, debug)
    if closed and closed.written and code == 0:
        return _fail(CLOSED, 2, debug)
    return code


def _guarded(app: Callable[..., object], given: Sequence[str], debug: bool) -> int:
    try:
        with _output():
            app(args=given, prog_name="dlas")
    except SystemExit as exit:
        left = getattr(sys.stdout, "wrapped", None)  # click's answer to a reader who has left
        if left is not None:
            _let_go(left)
            return 0
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
        _let_go(sys.stdout)


def _let_go(stream: TextIO) -> None:
    """Python flushes standard output once more at exit: let that go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Nowhere(io.TextIOWrapper):
    """Stands for a standard output that is closed; knows whether anything was to be printed."""

    def __init__(self) -> None:
        self._taken = io.BytesIO()
        super().__init__(self._taken, encoding="utf-8", errors="backslashreplace")

    @property
    def written(self) -> bool:
        """Whether anything was printed."""
        self.flush()
        return bool(self._taken.getvalue())


def _streams() -> _Nowhere | None:
    """Make both outputs take any text; return what stands for a standard output that is closed.

    A descriptor that is closed is taken: a file that is opened later must not get its number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    closed = None
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stdout is None:
        closed = sys.stdout = _Nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test may have put another thing there
            stream.reconfigure(errors="backslashreplace")
    return closed


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"{harmless(message)}\n")
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
