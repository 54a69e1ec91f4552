"""The text of a study file: plain data, and the line on which each part of it stands.

YAML 1.2's core scalars only (``on`` and ``12:30`` are text, ``1e-3`` is a number, ``010`` is ten
and ``0o10`` eight; no infinity), no tags, no merges, no key twice; nothing in the file is ever
executed. What looks like a number stays known as it was written, for where text is wanted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dlas.core.errors import UserError

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
MAX_DEPTH = 40
LEAST = {
    "study": "`dlas`, `name` and `layers`",
    "claims": "`dlas-claims`, `name` and `claims`",
}
"""The keys that a file of each kind has at least."""

Place = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """A safe loader that knows the core scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """A safe dumper that quotes text which is no text without quotes, in YAML 1.1 or 1.2."""


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+0123456789."),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
):
    for _class in (
        _Loader,
        _Dumper,
    ):  # what is read as a number is written in quotes if it is none
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first)
        )


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(node.value).lower()
    return int(text, 8 if text[:2] == "0o" else 16 if text[:2] == "0x" else 10)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(str(node.value))


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def dump(data: object) -> str:
    """Return YAML text that :func:`parse` reads as the same data."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def flow(data: object) -> str:
    """Return the same in one line, as it may stand behind a key or on a command line."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True,
        width=MAX_BYTES,
    )  # fmt: skip
    return text.removesuffix("...\n").strip()


def dotted(place: Place) -> str:
    """Return a place as people write it: ``layers.optimization[1].sparsity``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def shown(value: object) -> str:
    """Return a value as a message shows it: JSON, cut short."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass
class Source:
    """The data of a study file, where its parts stand, and the problems found so far."""

    name: str
    data: object = None
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    written: dict[Place, str] = field(default_factory=dict)
    """The numbers as they were written: ``1.10``."""

    def problem(self, place: Sequence[str | int], what: str) -> None:
        """Note a problem at a place (once)."""
        place = tuple(place)
        line = self._line(place)
        file = f"{self.name}:{line}" if line else self.name
        where = f" {dotted(place)}:" if place else ""
        found = (line, f"{file}:{where} {what}")
        if found not in self.problems:
            self.problems.append(found)

    def _line(self, place: Place) -> int:
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def check(self) -> None:
        """Raise all problems noted, in the order of the file.

        Raises:
            UserError: there are some.
        """
        if self.problems:
            raise UserError([text for _, text in sorted(self.problems, key=lambda p: p[0])])


def read(path: Path, what: str = "study") -> tuple[Source, str]:
    """Return the source of a study file, or one of another kind (``what``), and its text.

    Raises:
        UserError: there is no such file, or it is no YAML.
    """
    name = str(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{name}: there is no such {what} file") from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise UserError(f"{name}: a {what} file may have {MAX_BYTES} bytes, got {len(raw)}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: is not UTF-8 text ({error.reason} at {error.start})") from error
    return parse(text, name, what), text


def parse(text: str, name: str, what: str = "study") -> Source:
    """Return the source that YAML text is; problems of single keys are noted in it.

    Raises:
        UserError: the text is no YAML.
    """
    source = Source(name)
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            raise UserError(f"{name}: is empty; a {what} file has at least {LEAST[what]}")
        source.data = _Reader(source).value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{name}{line}: is not YAML: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{name}: is not YAML: {error}") from error
    except RecursionError:
        raise UserError(f"{name}: is nested deeper than {MAX_DEPTH}") from None
    return source


class _Reader:
    """Turns YAML nodes into data, noting the line of each and refusing what is ambiguous."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.loader = _Loader("")
        self.count = 0

    def value(self, node: yaml.Node, place: Place) -> object:
        """Return the data of a node."""
        self.count += 1
        if self.count > MAX_NODES or len(place) > MAX_DEPTH:
            raise UserError(
                f"{self.source.name}: has more than {MAX_NODES} values (aliases counted) or is "
                f"nested deeper than {MAX_DEPTH}"
            )
        self.source.lines.setdefault(place, node.start_mark.line + 1)
        short = node.tag.removeprefix("tag:yaml.org,2002:")
        if short not in ("bool", "int", "float", "null", "str", "map", "seq"):
            self.source.problem(place, f"the tag {node.tag} is not allowed: plain values only")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _scalar(self, node: yaml.Node, place: Place) -> object:
        try:
            value = self.loader.construct_object(node)
        except (ValueError, KeyError):  # `!!int many`, `!!bool maybe`
            self.source.problem(place, f"{shown(node.value)} is no {node.tag}")
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.source.written[place] = str(node.value)
        if isinstance(value, float) and not math.isfinite(value):  # 1e999
            self.source.problem(place, f"{node.value} is larger than any number here can be")
            return 0.0
        return value

    def _mapping(self, node: yaml.MappingNode, place: Place) -> Mapping[str, object]:
        data: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.source.problem(place, f"line {line}: a key must be text")
                continue
            key = str(key_node.value)
            inner = (*place, key)
            if key in data:
                first = self.source.lines[inner]
                self.source.lines[inner] = line
                self.source.problem(inner, f"the key stands twice, first on line {first}")
                continue
            self.source.lines[inner] = line
            data[key] = self.value(value_node, inner)
        return data
