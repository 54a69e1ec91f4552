"""dlas: which layers of the deep learning acceleration stack matter, measured.

Declare a study over the six layers, run every stack for real, and be told what matters, what
interacts, and which stack to deploy.
"""

from __future__ import annotations

__version__ = "0.1.0"
