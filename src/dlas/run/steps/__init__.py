"""The steps before measuring: artefacts in, one artefact out.

Each module has ``run(args) -> facts``, which runs in a child process. ``args["folder"]`` is the
empty folder to fill; other paths are folders of finished artefacts.
"""
