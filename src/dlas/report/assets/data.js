"use strict";
// All cells, hosts and runs, how to repeat them; the dialogs of one cell and of several.

// ---------------------------------------------------------------- all cells

const sorting = { by: METRIC, up: true };
const MOST_ROWS = 150;
function drawTable(body) {
  const rows = [...cells()].sort((a, b) => compare(a[sorting.by], b[sorting.by], sorting.up));
  const choose = (name) => () => { sorting.up = name === sorting.by ? !sorting.up : true; sorting.by = name; drawTable(body); body.querySelector(`[data-sort="${name}"]`).focus(); };
  const head = (name) => el("th", { scope: "col", "aria-sort": name === sorting.by ? (sorting.up ? "ascending" : "descending") : null }, el("button", { type: "button", "data-sort": name, onclick: choose(name) }, name + (name === sorting.by ? (sorting.up ? " ▲" : " ▼") : "")));
  const numeric = new Set(DATA.columns.filter((n) => CELLS.some((c) => isNumber(c[n]))));
  const line = (c) => el("tr", {}, el("td", {}, cellButton(c.row, c.cell.slice(0, 8))), ...DATA.columns.map((n) => el("td", { class: n === "status" ? c.status : numeric.has(n) ? "number" : null }, LAYERS.includes(n) ? short(n, c[n]) : show(c[n]))));
  const tbody = el("tbody", {}, ...rows.slice(0, MOST_ROWS).map(line));
  const more = rows.length > MOST_ROWS ? el("button", { type: "button", class: "more", onclick: () => { tbody.append(...rows.slice(MOST_ROWS).map(line)); more.remove(); } }, `Show all ${rows.length} cells`) : "";
  body.replaceChildren(el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "All cells" }, el("table", { id: "cells" }, el("caption", {}, `${rows.length} cells; choose a heading to sort. Empty means not measured.`), el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "cell"), ...DATA.columns.map(head))), tbody)), more);
}

// ---------------------------------------------------------------- hosts and reproduction

function flatText(v) {
  if (typeof v !== "object") return exact(v);
  return Object.entries(v).map(([a, b]) => (Array.isArray(v) ? exact(b) : `${a} ${exact(b)}`)).join(", ");
}
function drawHosts(body) {
  const pairs = (object) => Object.entries(object || {}).filter(([, v]) => v !== null && v !== "" && !(typeof v === "object" && !Object.keys(v).length)).map(([k, v]) => [k, flatText(v)]);
  const line = (h) => [["cpu", "cores", "memory_gib", "virtualization", "governor", "os", "python"].filter((k) => h.what[k] !== null && h.what[k] !== undefined).map((k) => `${k} ${flatText(h.what[k])}`).join(" · ")];
  body.replaceChildren(...hostsNow().map((h) => el("div", { class: "host" }, el("p", {}, el("strong", {}, h.host), ` ${line(h)}`),
    el("details", {}, el("summary", {}, "All that is known of it"), table(["what", "value"], pairs(h.what), `Host ${h.host}`), table(["library", "version"], pairs(h.libraries), "Versions"), h.flags ? el("p", {}, "Processor features: ", h.flags) : null))));
}
const when = (time) => time.slice(0, 16).replace("T", " ");
function drawRuns(body) {
  const shown = new Set(cells().map((c) => c.host));
  const runs = DATA.sessions.filter((s) => shown.has(s.host) || !filtering());
  const known = (settings) => Object.entries(settings || {}).map(([k, v]) => `${k} ${flatText(v)}`).join(", ");
  body.replaceChildren(runs.length ? table(["session", "study", "host", "from", "to", "dlas", "command"], runs.map((s) => [s.session, s.study, s.host, when(s.started_at), s.ended_at ? when(s.ended_at) : "not ended", s.dlas, s.command]), "Runs, a session each") : el("p", { class: "soft" }, "Nothing is known of how these results came about."),
    runs.length ? el("details", {}, el("summary", {}, "How they measured"), ...runs.map((s) => el("p", {}, el("strong", {}, s.session), `: ${known(s.settings)}`))) : "",
    DATA.reproduce.length ? el("p", {}, "To repeat a cell (choose any on this page for its own commands):") : "", ...DATA.reproduce.map((lines) => el("pre", { tabindex: "0" }, lines.join("\n"))));
}

// ---------------------------------------------------------------- dialogs

function openDialog(...content) {
  const box = document.getElementById("dialog");
  box.replaceChildren(el("button", { type: "button", class: "close", onclick: () => box.close() }, "Close"), ...content.flat().filter((c) => c !== null));
  if (!box.open) box.showModal();
  box.scrollTop = 0;
}
const ROUND_NAMES = ["round", "control", "status", "quiet_ms", "latency_ms", "latency_p90_ms", "samples", "steady", "flags", "launch", "cpus", "threads_seen", "steal_share", "involuntary_switches", "overhead_s", "session", "reason"];
function openCell(row) {
  const c = CELLS[row];
  const known = Object.entries(c).filter(([k, v]) => v !== null && v !== "" && !["row", "folder", "log", "cell", ...LAYERS].includes(k)).map(([k, v]) => [k, exact(v)]);
  const told = FINDINGS.filter((f) => f.cells.includes(row));
  openDialog(el("h2", { id: "dialog-title" }, stackText(c)), el("p", {}, "Cell ", el("code", { id: "dialog-cell" }, c.cell), ": ", el("strong", { class: c.status }, c.status), c.stage ? ` in ${c.stage}` : "", c.reason ? `: ${c.reason}` : ""),
    table(["layer", "choice"], LAYERS.map((l) => [l, c[l]]), "The stack"),
    c.log ? el("details", { open: "" }, el("summary", {}, "End of the log"), el("pre", { tabindex: "0" }, c.log)) : null,
    el("h3", {}, "Results"), table(["what", "value"], known, DATA.folders.length ? "As `dlas show` prints them; what is not listed was not measured" : "As the table has them"),
    storedOf(c), told.length ? [el("h3", {}, "Findings that rest on it"), el("ul", {}, ...told.slice(0, 12).map((f) => el("li", {}, readable(f.sentence))))] : null,
    DATA.reproduce.length ? [el("h3", {}, "Reproduce"), el("pre", { tabindex: "0" }, DATA.reproduce[c.folder].map((l) => l.replaceAll("CELL", c.cell)).join("\n"))] : null);
}
function storedOf(c) {
  const rounds = ROUNDS.filter((r) => placeOf(r) === placeOf(c));
  const names = ROUND_NAMES.filter((n) => rounds.some((r) => r[n] !== null));
  const facts = FACTS.filter((f) => placeOf(f) === placeOf(c));
  return [rounds.length ? [el("h3", {}, "Rounds"), table(names, rounds.map((r) => names.map((n) => r[n])), "Every round; control 1 is the A/A double")] : [],
    facts.length ? [el("h3", {}, "Steps"), table(["step", "status", "reason", "at", "attempts", "artefact"], facts.map((f) => [f.kind, f.status, f.reason, f.created_at, f.attempts, (f.content || "").slice(0, 16)]), "What is stored beside the rounds")] : []].flat();
}
function openList(rows, title) {
  const layers = MANY.length ? MANY : LAYERS;
  const names = unique([METRIC, ...DATA.weighed]);
  openDialog(el("h2", { id: "dialog-title" }, plural(rows.length, "cell")), title ? el("p", {}, readable(title)) : null,
    table(["cell", ...layers, "status", ...names], rows.map((r) => CELLS[r]).map((c) => [cellButton(c.row, c.cell.slice(0, 8)), ...layers.map((l) => short(l, c[l])), c.status, ...names.map((n) => valueOf(c, n))]), "Choose one for all that is known of it"));
}
