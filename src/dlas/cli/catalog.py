"""What this installation and this machine have: for ``dlas catalog`` and ``dlas doctor``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from dlas.cli.display import table, text_of
from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.protocols import HardwareTechnique
from dlas.core.stack import LAYERS, TITLES

if TYPE_CHECKING:
    from dlas.run.executed import Probe
    from dlas.run.plan.plan import Step
    from dlas.run.process.interpreters import Interpreters
    from dlas.run.progress import Progress
    from dlas.store.artifacts import StepRecord


class Executed(TypedDict):
    """What a runtime was seen to execute where a type was asked for."""

    software: str
    """With the path of its interpreter, where that is not dlas's own."""
    type: str
    executes: str | None
    """None where it could not be seen; ``problem`` says why, if it failed."""
    isa: str | None
    problem: str


def parameters(row: Mapping[str, Any]) -> str:
    """Return a technique's parameters with their defaults: ``sparsity, epochs=1``."""
    shown = []
    for name, described in row["parameters"].items():
        default = described.get("default")
        known = "default" in described and default not in ("", None)
        shown.append(f"{name}={text_of(default)}" if known else name)
    return ", ".join(shown)


def catalogue_text(rows: Sequence[Mapping[str, Any]], width: int | None) -> str:
    """Return the techniques of each layer as text."""
    blocks = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        found = [row for row in rows if row["layer"] == layer]
        lines = [
            {
                "technique": row["name"],
                "what it is": row["summary"].replace("``", "`"),
                "parameters": parameters(row),
            }
            for row in found
        ]
        title = f"{layer}: {TITLES[layer]}"
        missing = [
            f"not available: {r['name']}: {r['unavailable']}" for r in found if r["unavailable"]
        ]
        body = table(lines, ("technique", "what it is", "parameters"), width)
        blocks.append("\n".join([title, body, *missing]))
    return "\n\n".join(blocks)


def reference_text(told: Mapping[str, Any]) -> str:
    """Return one technique's quick reference as text."""
    lines = [f"{told['layer']}: {told['name']}", "", told["what"].replace("``", "`"), ""]
    given = [
        f"  {name}{_default(described)}: {described.get('description') or _kind(described)}"
        for name, described in told["parameters"].items()
    ]
    parts = {
        "parameters": given,
        "needs": [f"  {', '.join(told['needs'])}"] if told["needs"] else [],
        "not available here": [f"  {told['unavailable']}"] if told["unavailable"] else [],
        "refuses": [f"  - {reason}" for reason in told["refuses"]],
        "evidence": [f"  - {e['text']} [{e['status']}]" for e in told["evidence"]],
    }
    for title, found in parts.items():
        lines += [f"{title}:", *found, ""] if found else []
    return "\n".join(lines).rstrip()


def _default(described: Mapping[str, Any]) -> str:
    return f"={text_of(described['default'])}" if described.get("default") is not None else ""


def _kind(described: Mapping[str, Any]) -> str:
    """Return what a parameter can be, as its JSON Schema says."""
    if "enum" in described:
        return ", ".join(str(value) for value in described["enum"])
    kinds = [described, *described.get("anyOf", ())]
    names = [str(each["type"]) for each in kinds if "type" in each]
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to",
              "exclusiveMaximum": "below"}  # fmt: skip
    said = [f"{word} {described[key]:g}" for key, word in bounds.items() if key in described]
    return " ".join([" or ".join(names) or "any", *said])


def examine(progress: Progress | None = None, pythons: Sequence[str] = ()) -> dict[str, object]:
    """Return what the machine is, what is missing and how to get it, and what to mistrust.

    With a progress, what each runtime executes of each type is looked at, too, where it is not
    known yet (``executes``; None: not looked at). ``pythons``: other interpreters in which it is
    looked for runtimes (``environments``: what each lacks for which). ``refused``: the runtimes
    that are installed and run none of the types, with the reason.
    """
    from dlas.run.measure import host

    asked = _asked(pythons)
    description = host.describe()
    executes, refused = (None, {}) if progress is None else _executes(progress, asked)
    rows = registry.catalogue()
    techniques = [
        {"layer": row["layer"], "name": row["name"], "missing": row["unavailable"] or _absent(row)}
        for row in rows
    ]
    return {
        "host": description,
        "host_class": host.host_class(description),
        "techniques": techniques,
        "environments": _environments(asked),
        "executes": executes,
        "refused": refused,
        "concerns": host.concerns(description),
    }


def _asked(pythons: Sequence[str]) -> Interpreters:
    """Ask interpreters, if there are any, for all that each runtime needs.

    Raises:
        UserError: one of them cannot be started.
    """
    from dlas.run.process.interpreters import ask, no_program

    if problems := [problem for python in pythons if (problem := no_program(python))]:
        raise UserError(problems)
    return ask((python, needs) for python in pythons for needs in _needed().values())


def _needed() -> dict[str, tuple[str, ...]]:
    """Return the modules that each runtime needs where nothing is asked of it."""
    names = registry.names("software")
    return {name: registry.make("software", name).needs() for name in names}


def _environments(asked: Interpreters) -> dict[str, dict[str, str]]:
    """Return for each interpreter what it lacks for each runtime, empty for nothing."""
    return {
        python: {name: found.lacks(python, needs) for name, needs in _needed().items()}
        for python, found in asked.items()
    }


def _executes(progress: Progress, asked: Interpreters) -> tuple[list[Executed], dict[str, str]]:
    """Return a row for each runtime and type that no rule refuses: what was seen to run.

    And why a runtime that is installed has none.
    """
    from dlas.core.records import Status
    from dlas.run.executed import Answers, ran_of

    answers = Answers(interpreters=asked)
    probes, refused = answers.survey()
    steps = {key for probe in probes for key in (*probe.steps, probe.step.key)}
    progress.start(len(steps), 0)
    seen: list[str] = []

    def done(step: Step, record: StepRecord, known: bool) -> None:
        seen.append(step.key)
        progress.step(str(step.stage), step.text, len(seen), len(steps))

    def row(probe: Probe, record: StepRecord) -> Executed:
        ran = ran_of(record.info) if record.status is Status.COMPLETE else None
        return {
            "software": probe.cell.stack.text("software"),
            "type": probe.cell.techniques.precision,
            "executes": ran.precision if ran else None,
            "isa": ran.isa if ran else None,
            "problem": record.reason if ran is None else "",
        }

    rows = [row(*each) for each in answers.run(probes, progress.note, done=done)]
    return rows, refused


def _absent(row: Mapping[str, Any]) -> str | None:
    """Return why a device is not there (hardware only)."""
    if row["layer"] != "hardware":
        return None
    device = registry.make("hardware", row["name"])
    assert isinstance(device, HardwareTechnique)
    return device.missing()


def examination_text(found: Mapping[str, Any], width: int | None) -> str:
    """Return what :func:`examine` found as text."""
    host = found["host"]
    cores = f"{host['cores_allowed']} of {host['cores']} cores, {host['memory_gib']} GiB"
    here = [f"{name} {v}" for name, v in host["libraries"].items() if v]
    techniques = found["techniques"]
    lines = [
        f"{host['cpu']}, {cores}, {host['distribution'] or host['os']}",
        f"host class {found['host_class']}, Python {host['python']}, dlas {host['dlas']}",
        f"libraries: {', '.join(here) or 'none'}",
        "",
    ]
    for layer in LAYERS:
        ready = [t["name"] for t in techniques if t["layer"] == layer and not t["missing"]]
        lines.append(f"{layer:13} {', '.join(ready) or 'none'}")
    if missing := [t for t in techniques if t["missing"]]:
        lines += ["", "missing:", table(missing, ("layer", "name", "missing"), width)]
    for python, lacks in found["environments"].items():
        lines += ["", *_environment_text(python, lacks)]
    if found["executes"] is not None:
        lines += ["", *_executes_text(found["executes"], width)]
        lines += [f"- {name}: {reason}" for name, reason in found["refused"].items()]
    concerns = found["concerns"] or ["nothing speaks against timings on this machine"]
    return "\n".join([*lines, "", "timings:", *(f"- {concern}" for concern in concerns)])


def _environment_text(python: str, lacks: Mapping[str, str]) -> list[str]:
    """Return which runtimes an interpreter has, and what it lacks for the others."""
    ready = [name for name, problem in lacks.items() if not problem]
    told: dict[str, list[str]] = {}
    for name, problem in lacks.items():
        told.setdefault(problem, []).append(name)
    missing = [f"- {', '.join(names)}: {problem}" for problem, names in told.items() if problem]
    return [f"{python}: {', '.join(ready) or 'no runtime'}", *missing]


def _executes_text(rows: Sequence[Executed], width: int | None) -> list[str]:
    """Return what each runtime executes of each type as a table, and what it could not run."""
    types = list(dict.fromkeys(row["type"] for row in rows))
    lines = []
    for software in dict.fromkeys(row["software"] for row in rows):
        mine = {row["type"]: row for row in rows if row["software"] == software}
        cells = {each: _executed(mine.get(each)) for each in types}
        lines.append({"software": software, **cells})
    troubles = [f"- {r['software']} {r['type']}: {r['problem']}" for r in rows if r["problem"]]
    title = "what runs where a type is asked for (seen with a small network; -: refused):"
    return [title, table(lines, ("software", *types), width), *troubles]


def _executed(row: Executed | None) -> str:
    if row is None:
        return "-"
    return row["executes"] or ("failed" if row["problem"] else "not told")
