"""The source of a user's network: its file, and every file of the user's own that it imports.

Found without running anything: import statements are read from the source, wherever they stand.
What is installed (in site-packages, or Python's own) is not the user's own: its version counts.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from dlas.core.errors import UserError
from dlas.core.keys import Json, file_hash, key

DATA = frozenset((".json", ".yaml", ".yml", ".toml", ".cfg", ".ini"))
"""Files of a package, beside Python's, that its networks may be built from: small ones."""
SMALL = 1_000_000
"""Bytes; what is larger is a data set's."""
IN_KEYS = frozenset(("torch", "dlas"))
"""Packages whose version is in the key anyway."""
INIT = "__init__.py"
DEPTH = 3
"""How deep below the factory's file a module is looked for that is on no path."""


def source_hash(module: str) -> Json:
    """Return the hash of what a module is made of, without running it.

    That is its file; if it imports others of the user's own, these too; of a package all its
    files; of what is installed and imported, the version.

    Raises:
        UserError: there is no such module.
    """
    first = find(module)
    files, installed = _closure(module, first)
    if len(files) == 1 and not installed:
        return file_hash(first)
    hashes: dict[str, Json] = {name: file_hash(path) for name, path in sorted(files.items())}
    return key(hashes, installed) if installed else key(hashes)


def find(module: str) -> Path:
    """Return where a module's source is, without importing it or its packages.

    Raises:
        UserError: there is no such module.
    """
    found = _locate(module)
    if found is None:
        last = module.rpartition(".")[2]
        raise UserError(
            f"torch.factory: no module {module!r} is found. Put {last}.py "
            "beside the study file, or install the package that has it."
        )
    return found


@contextmanager
def beside_first() -> Iterator[None]:
    """Look for modules in the working folder first: dlas works in the study file's."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _locate(module: str) -> Path | None:
    top, *inner = module.split(".")
    with beside_first():
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return None
    if spec is None:
        return None
    if not inner and spec.origin and Path(spec.origin).is_file():
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        at = Path(folder, *inner)
        found = [p for p in (at.with_suffix(".py"), at / INIT) if p.is_file()]
        if found:
            return found[0]
    return None


def _closure(module: str, first: Path) -> tuple[dict[str, Path], dict[str, Json]]:
    """Return the files by a name that holds no place, and the versions of what is installed."""
    files: dict[str, Path] = {}
    installed: dict[str, Json] = {}
    todo: list[tuple[str, Path]] = [(module, first)]
    seen: set[Path] = set()
    while todo:
        name, path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        files[name] = path
        for extra, at in _package(name, path):
            if at.suffix == ".py":
                todo.append((extra, at))
            else:
                files[extra] = at
        for wanted in sorted(_imports(path, name)):
            found = _own(wanted, first.parent)
            todo += found
            if not found and (distribution := _distribution(wanted)):
                installed[distribution] = version(distribution)
    return files, installed


def _package(name: str, path: Path) -> Iterator[tuple[str, Path]]:
    """Give all files of the package that a module is in, from the outermost that has an init."""
    top = name.partition(".")[0]
    if "." not in name and path.name != INIT:
        return
    depth = name.count(".") + (path.name == INIT)
    root = path.parents[depth - 1] if depth else path.parent
    for each in sorted(root.rglob("*")):
        hidden = any(p.startswith((".", "__pycache__")) for p in each.relative_to(root).parts)
        if hidden or not each.is_file() or each.suffix not in DATA | {".py"}:
            continue
        inner = each.relative_to(root)
        if each.suffix != ".py":
            if each.stat().st_size <= SMALL:
                yield f"{top}/{inner.as_posix()}", each
            continue
        parts = inner.with_suffix("").parts
        parts = parts[:-1] if parts[-1] == Path(INIT).stem else parts
        yield ".".join((top, *parts)), each


def _imports(path: Path, name: str) -> set[str]:
    """Return the full names of all that a file imports, by statements or by a written name."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    package = name if path.name == INIT else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
            texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
            found.update(text for text in texts if isinstance(text, str))
    return {each.strip(".") for each in found if each.strip(".")}


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *(node.module or "").split(".")]).strip(".")


def _called(func: ast.expr) -> str:
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else ""


def _own(module: str, root: Path) -> list[tuple[str, Path]]:
    """Return a module's file, if it is the user's own; one that is put on the path later, too."""
    top = module.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names or top in IN_KEYS:
        return []
    path = _locate(module)
    if path is not None:
        return [] if _is_installed(path) else [(module, path)]
    if _locate(top) is not None or _distribution(top):
        return []
    # Not where Python looks now: a folder that the source itself puts on the path.
    inner = Path(*module.split("."))
    places = [p for f in _folders(root) for p in (f / inner.with_suffix(".py"), f / inner / INIT)]
    return [(f"{module}@{p.parent.name}", p) for p in places if p.is_file()]


def _folders(root: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Give the folder above, and those below that are neither hidden nor an environment."""
    yield root.parent
    level = [root]
    for _ in range(depth):
        level = [
            each
            for folder in level
            for each in sorted(folder.iterdir())
            if each.is_dir()
            and not each.name.startswith((".", "__pycache__"))
            and not (each / "pyvenv.cfg").exists()
        ]
        yield from level


def _is_installed(path: Path) -> bool:
    resolved = path.resolve()
    if {"site-packages", "dist-packages"} & set(resolved.parts):
        return True
    return resolved.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())


@cache
def _distributions() -> Mapping[str, Sequence[str]]:
    return packages_distributions()


def _distribution(module: str) -> str:
    """Return the installed distribution that a module is of, ``""``: none, or in keys anyway."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in IN_KEYS:
        return ""
    return next(iter(_distributions().get(top, ())), "")
