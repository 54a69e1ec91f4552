"""Make the sample plug-in visible without pip: a folder to put on PYTHONPATH."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

HERE = Path(__file__).parent


def write(folder: Path) -> Path:
    """Write module and metadata, as an installer would, into ``folder``; return it."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    for module in (HERE / "src").glob("*.py"):
        shutil.copy(module, folder)
    name = project["name"].replace("-", "_")
    info = folder / f"{name}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder
