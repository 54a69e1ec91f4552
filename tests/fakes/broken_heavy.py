"""A data set whose module imports a heavy library at its top, as none should."""

from __future__ import annotations

from typing import ClassVar

import pandas

from broken_promise import broken
from dlas.testing import SmallImages


@broken("importing-it-loads-no-heavy-library")
class Heavy(SmallImages):
    """Loads pandas for nothing."""

    libraries: ClassVar[tuple[str, ...]] = (pandas.__name__,)
