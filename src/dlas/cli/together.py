"""The commands that bring results from several places together."""

from __future__ import annotations

import sys

from dlas.cli import options


def merge(
    folders: options.Sources,
    into: options.Into,
    prefer: options.Prefer = None,
) -> None:
    """Make one folder of several, which ran parts of a study in different places.

    Rows and artefacts are copied and checked; the sources are only read. The same cell of one
    host in two of them is a conflict, which is named: --prefer says whose numbers count.

        dlas merge out/laptop out/board --into out/both

        dlas merge out/mine hers.dlas.zip --into out/ours
    """
    from dlas.run.merge import merge as merge_folders

    done = merge_folders(
        folders, into, prefer=prefer, note=lambda sentence: print(sentence, file=sys.stderr)
    )
    print(
        f"{into}: {done.cells} cells and {done.rounds} rounds of {done.hosts} hosts from "
        f"{done.sources} sources, {done.artefacts} steps"
    )


def pack(folder: options.Folder, output: options.BundleFile = None) -> None:
    """Write the results as one small file to send: rows and study, no artefacts.

    `dlas table`, `analyze`, `report`, `compare` and `merge` read it as it is.

        dlas pack out/quickstart

        dlas analyze quickstart.dlas.zip
    """
    from dlas.run.send import pack as write

    file, size = write(folder, output)
    print(f"{file} ({size / 1e6:.1f} MB)")
