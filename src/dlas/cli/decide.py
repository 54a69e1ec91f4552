"""The commands that decide: what is deployed, what to try next, and the whole way at once."""

from __future__ import annotations

from dlas.cli import options


def export(
    folder: options.Folder,
    cell: options.CellOrBest,
    to: options.To,
    store: options.SharedStore = None,
) -> None:
    """Write a folder that runs a measured stack without dlas, and prove that it does.

    CELL is the start of a cell's hash, or `best`: the best under the study's goals.

        dlas export out/quickstart best --to deploy

        dlas export out/quickstart 3fa2 --to deploy
    """
    from dlas.cli.display import exported_text
    from dlas.deploy import export as write

    print(exported_text(write(folder, cell, to, store)))
