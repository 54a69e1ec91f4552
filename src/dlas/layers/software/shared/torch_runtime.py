"""What a server that forks PyTorch children imports: torch, and timm where it is installed.

Networks made of timm's parts need its classes when they are loaded; to import them takes as long
as to import torch itself.
"""

from __future__ import annotations

import importlib.util

import torch  # noqa: F401

if importlib.util.find_spec("timm"):
    import timm.models  # noqa: F401
