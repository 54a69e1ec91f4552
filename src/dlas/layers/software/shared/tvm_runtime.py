"""What a server that forks TVM children imports: TVM's runtime, neither its compiler nor torch."""

from __future__ import annotations

from dlas.kernels.ground.program import load_runtime

load_runtime()
