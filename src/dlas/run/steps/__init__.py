"""The steps before measuring: artefacts in, one artefact out.

Each module has ``run(args) -> facts``, JSON both, which runs in a child process; what it is asked
for is a dataclass beside it. ``folder`` is the empty folder to fill; other paths are folders of
finished artefacts.
"""
