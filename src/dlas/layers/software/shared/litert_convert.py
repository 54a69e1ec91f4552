"""Makes LiteRT's file of an exported program: run by an interpreter that has litert-torch.

    python litert_convert.py model.pt2 model.tflite

It needs nothing of dlas, whose requirements litert-torch does not share.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path


def main(source: str, target: str) -> None:
    """Convert the program in one file into the other."""
    import litert_torch
    import torch

    program = torch.export.load(source)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, (args, _) = program.module(), program.example_inputs
        made = litert_torch.convert(module, args)
    Path(target).write_bytes(made.model_content())


if __name__ == "__main__":
    main(*sys.argv[1:])
