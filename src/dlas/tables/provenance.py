"""Where results come from: what of a folder is stale, what two folders do not have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from dlas.core.errors import listed
from dlas.store.facts import Built, Evaluated
from dlas.store.results import SessionRow
from dlas.tables.environments import several
from dlas.tables.read import Results

QUIET = frozenset(
    {"flags", "libraries", "load", "clocks_mhz", "temperatures_c", "cores_allowed", "machines"}
)
"""Parts of a host's description that say how it stood for a moment, or are told apart."""


def told(every: Sequence[Results]) -> tuple[str, ...]:
    """Return what a reader of output folders has to know before any number, a sentence each."""
    return tuple(
        sentence for each in every for sentence in (*_stale(each), *_mixed(each), *several(each))
    )


def measured(every: Sequence[Results]) -> tuple[str, ...]:
    """Return where, when and by which command each folder was measured, a sentence a session."""
    said = []
    for results in every:
        hosts = {h.host: h.description for h in results.hosts}
        rounds = Counter(row.session for row in results.rounds)
        for ran in sorted(results.sessions, key=lambda s: s.started_at):
            if rounds[ran.session]:
                said.append(
                    f"Measured on {_machine(hosts.get(ran.host, {}))} {_time(ran)}, "
                    f"{rounds[ran.session]} rounds, by dlas {ran.dlas_version}"
                    f"{_commit(hosts.get(ran.host, {}))}: `{_command(ran, results)}`."
                )
    return tuple(said)


def _machine(host: Mapping[str, Any]) -> str:
    """Return the processor, its cores and memory, and the system; what is known of them."""
    cores, memory = host.get("cores_allowed"), host.get("memory_gib")
    parts = [
        host.get("cpu") or host.get("machine") or "an unknown machine",
        f"{cores} {'core' if cores == 1 else 'cores'}" if cores else "",
        f"{memory} GiB" if memory else "",
        str(host.get("os") or ""),
    ]
    return ", ".join(part for part in parts if part)


def _time(ran: SessionRow) -> str:
    start = datetime.fromisoformat(ran.started_at)
    told = f"on {start:%Y-%m-%d at %H:%M} UTC"
    if ran.ended_at is None:
        return told
    minutes = (datetime.fromisoformat(ran.ended_at) - start).total_seconds() / 60
    return f"{told} in {minutes:.1f} minutes"


def _commit(host: Mapping[str, Any]) -> str:
    return f" (commit {host['commit']})" if host.get("commit") else ""


def _command(ran: SessionRow, results: Results) -> str:
    """Return a session's command as it would be given for the folder as its reader calls it."""
    words = ran.command.split() or ["dlas", "run"]
    words[0] = Path(words[0]).name
    for at, word in enumerate(words[:-1]):
        if word == "--out":
            words[at + 1] = str(results.folder)
    return " ".join(words)


def _stale(results: Results) -> list[str]:
    why = Counter(reason for row in results.rows_of_cells if (reason := results.stale(row)))
    if not why:
        return []
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(why.items()))
    count = sum(why.values())
    return [
        f"{results.folder}: {count} of {len(results.rows_of_cells)} cells are stale and left out "
        f"of analysis: {reasons}."
    ]


def _mixed(results: Results) -> list[str]:
    """Say so where cells of one host were measured with different versions of libraries."""
    cells = {row.cell for row in results.rows_of_cells if not results.stale(row)}
    latest = {
        (row.cell, row.host): row.session
        for row in sorted(results.rounds, key=lambda r: r.created_at)
        if row.cell in cells
    }
    sessions = {s.session: s for s in results.sessions}
    said = []
    for host in sorted({host for _, host in latest}):
        used = Counter(session for (_, h), session in latest.items() if h == host)
        ran = [sessions[name] for name in used if name in sessions]
        for name, versions in _differing(ran).items():
            counts = Counter[str]()
            for session, version in versions.items():
                counts[version] += used[session]
            said.append(f"{name} {', '.join(f'{v} ({n})' for v, n in sorted(counts.items()))}")
    if not said:
        return []
    return [
        f"{results.folder}: cells of one host were measured with different versions (cells each): "
        f"{'; '.join(said)}. `dlas run` measures again what an update changed."
    ]


def _differing(sessions: Sequence[SessionRow]) -> dict[str, dict[str, str]]:
    """Return for each library with several versions the version of each session."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted({name for s in sessions for name in s.versions}):
        known = {s.session: str(s.versions[name]) for s in sessions if name in s.versions}
        if len(set(known.values())) > 1:
            found[name] = known
    return found


# ---------------------------------------------------------------- two folders


def differences(a: Results, b: Results) -> tuple[str, ...]:
    """Return what differs between two output folders besides the numbers, a line each."""
    lines = [
        *_unlike("study", _studies(a), _studies(b)),
        *_hosts(a, b),
        *_unlike("dlas", _dlas(a), _dlas(b)),
        *_by_name("", _versions(a), _versions(b)),
        *_by_name("measure.", _settings(a), _settings(b)),
        *_cells(a, b),
    ]
    return tuple(lines)


def _unlike(name: str, one: Iterable[str], two: Iterable[str]) -> list[str]:
    first, second = sorted(set(one)), sorted(set(two))
    if first == second:
        return []
    return [f"{name}: {listed(first) or 'unknown'} against {listed(second) or 'unknown'}"]


Named = Mapping[str, Iterable[str]]
"""The values of each name; several where sessions differ."""


def _by_name(prefix: str, one: Named, two: Named) -> list[str]:
    names = sorted(one.keys() & two.keys())  # an older dlas told less: that is no difference
    return list(chain(*(_unlike(prefix + n, one[n], two[n]) for n in names)))


def _measuring(results: Results) -> list[SessionRow]:
    """Return the sessions whose rounds are in the folder; all, where none has any."""
    ran = {row.session for row in results.rounds}
    return [s for s in results.sessions if s.session in ran] or list(results.sessions)


def _studies(results: Results) -> list[str]:
    return [results.study] if results.study else []


def _dlas(results: Results) -> list[str]:
    return [s.dlas_version for s in _measuring(results)]


def _versions(results: Results) -> Named:
    return _values([s.versions for s in _measuring(results)])


def _settings(results: Results) -> Named:
    return _values([s.settings for s in _measuring(results)])


def _values(every: Iterable[Mapping[str, object]]) -> Named:
    found: dict[str, set[str]] = {}
    for each in every:
        for name, value in each.items():
            found.setdefault(name, set()).add(str(value))
    return found


def _hosts(a: Results, b: Results) -> list[str]:
    one, two = ({h.host: h.description for h in each.hosts} for each in (a, b))
    ran_a, ran_b = ({row.host for row in each.rounds} for each in (a, b))
    if ran_a != ran_b:
        return _unlike("host", (_host(h, one) for h in ran_a), (_host(h, two) for h in ran_b))
    lines = []
    for host in sorted(ran_a):
        before, after = (_values([each.get(host, {})]) for each in (one, two))
        quiet: Named = dict.fromkeys(QUIET, ())
        lines += _by_name("host.", {**before, **quiet}, {**after, **quiet})
    return lines


def _host(host: str, known: Mapping[str, Mapping[str, object]]) -> str:
    told = known.get(host, {})
    parts = [str(told[name]) for name in ("name", "cpu") if told.get(name)]
    if told.get("cores"):
        parts.append(f"{told['cores']} cores")
    return " ".join([f"{host} ({', '.join(parts)})" if parts else host])


def _cells(a: Results, b: Results) -> list[str]:
    """Count the common cells that run another artefact, or whose accuracy is of other images."""
    common = {row.cell for row in a.cells} & {row.cell for row in b.cells}
    lines = []
    if other := [c for c in common if _unequal(_contents(a, c), _contents(b, c))]:
        lines.append(f"artefact: another one in {len(other)} of {len(common)} common cells")
    if other := [c for c in common if _unequal(_images(a, c), _images(b, c))]:
        lines.append(f"test images: other ones in {len(other)} of {len(common)} common cells")
    return lines


def _unequal(one: set[object], two: set[object]) -> bool:
    return bool(one and two) and one != two


def _contents(results: Results, cell: str) -> set[object]:
    facts = [
        results.facts_of[cell, host].get(Built.KIND) for host in results.hosts_of.get(cell, ())
    ]
    return {fact.content for fact in facts if fact and fact.content}


def _images(results: Results, cell: str) -> set[object]:
    facts = [
        results.facts_of[cell, host].get(Evaluated.KIND) for host in results.hosts_of.get(cell, ())
    ]
    hashes = (Evaluated.from_json(fact.value).ids_hash for fact in facts if fact)
    return {each for each in hashes if each}
