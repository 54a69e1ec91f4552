"use strict";
// The page: which parts there are, in which group, and when they are drawn anew.

function buildFilters() {
  const form = document.getElementById("filters");
  const place = document.getElementById("filter-fields");
  for (const name of DATA.filters) {
    const levels = Stats.ordered(name, CELLS.map((c) => levelOf(c, name)));
    place.append(el("label", {}, name, el("select", { name, onchange: (e) => { chosen[name] = e.target.value; redraw(); } }, el("option", { value: "" }, "all"), ...levels.map((v) => el("option", { value: v }, short(name, v))))));
  }
  if (!DATA.filters.length) place.append(el("span", { class: "soft" }, "There is nothing to choose from: all cells share every choice."));
  form.addEventListener("reset", () => { for (const k of Object.keys(chosen)) delete chosen[k]; setTimeout(redraw); });
  form.addEventListener("submit", (e) => e.preventDefault());
}
const lacking = (list, why) => () => (list().length ? "" : why);
const UNCOMPARED = "nothing could be compared.";
function decide() {
  group("decide", "Decide", "");
  section("answer", "", "", drawAnswer, { wide: true });
  section("trade", "Trade-offs", "", drawTrade, { wide: true, silent: () => (tradeMeasures().length > 1 ? "" : "fewer than two measures differ between the complete cells.") });
  section("findings", "Findings", "One row a fact, those worth most first; false discoveries among those called sure are held to 5 %.", drawFindings, { wide: true });
}
function understand() {
  group("understand", "Understand", "Why the answer is what it is: what each layer moves, how layers interact, what was promised and what came of it.");
  section("matters", "What matters", "", drawPicture, { silent: () => FEW_LAYERS() || (sharesNow() ? "" : UNCOMPARED) });
  section("winners", "The best of each place", "", drawWinners, { silent: () => FEW_LAYERS() || (once("telling", telling) ? "" : "one choice of each layer is the best, or no worse, everywhere.") });
  section("losses", "What a wrong choice costs", "", drawLosses, { silent: lacking(lossesNow, "no layer has two choices with everything else equal.") });
  section("flips", "Choices that change order", "", drawFlips, { silent: lacking(flipsNow, "no choice is surely better in one place and surely worse in another.") });
  section("interactions", "Interactions", "", drawInteractions, { silent: () => FEW_LAYERS() || (pairsNow().some((p) => p.found) ? "" : "no choice of one layer changes what another does beyond noise.") });
  section("speedups", "Gains of each choice", "", drawSpeedups, { silent: lacking(() => TABLES.speedups || [], "no two choices were measured with everything else equal.") });
  section("expected", "Expected against observed", "", drawExpected, { silent: NO_PROMISE });
  section("waterfall", "The promise waterfall", "", drawWaterfall, { silent: lacking(() => TABLES.waterfall_stacks || [], "no optimization stands beside the stack without it, or neither multiplications nor the type that ran are known.") });
  section("roofline", "Roofline", "", drawRoofline, { silent: noRoofline });
  section("break-even", "Break-even", "", drawBreakEven, { silent: noCurve });
  section("returns", "Diminishing returns", "", drawReturns, { silent: noReturns });
  section("elbow", "Elbows", "", drawElbow, { silent: noElbow });
  section("cold", "Cold start", "", drawCold, { silent: NO_COLD });
  section("correlations", "Correlations", "", drawCorrelations, { wide: true, silent: NO_CORRELATIONS });
  section("price-table", "Tuning layer by layer", "", drawPrice, { wide: true, silent: lacking(priceStarts, "there is no start from which layers can be tuned one by one.") });
}
function trust() {
  group("trust", "Trust", "What the numbers rest on, and what they do not say.");
  section("as-seen", "Undisturbed or as seen", "", drawSeen, { wide: true, silent: NO_SEEN });
  section("jitter", "Jitter", "Neighbours, and what runtimes lose by their own.", drawJitter, { silent: lacking(jitters, "only one latency is known.") });
  section("floors", "Noise floor", "", drawFloors, { silent: () => (DATA.folders.length ? "" : "the table holds no rounds of a study.") });
  section("noise", "Controls", "", drawControls, { silent: lacking(() => DATA.controls, "no cell was measured twice.") });
  section("drift", "Drift", "", drawDrift, { silent: lacking(() => DATA.sentinels.filter((s) => s.relative.length > 1), "the sentinel was not read.") });
  section("coverage", "Coverage", "", drawCoverage, { silent: lacking(broken, "every cell is complete.") });
  section("why", "What did not run, and why", "", drawWhy, { wide: true, silent: lacking(broken, "every cell is complete.") });
}
function data() {
  group("data", "Data", "");
  section("cells-table", "All cells", "", drawTable, { wide: true });
  section("hosts", "Hosts", "", drawHosts, { wide: true, silent: lacking(() => DATA.hosts, "the table names none.") });
  section("runs", "Runs, and how to repeat them", "", drawRuns, { wide: true, silent: lacking(() => DATA.sessions, "a table from elsewhere has none.") });
}
function start() {
  document.getElementById("title").textContent = `What ${DATA.title || "the study"} says`;
  const done = CELLS.filter((c) => c.status === "complete").length;
  const where = HOSTS.length === 1 ? (DATA.hosts.find((h) => h.host === HOSTS[0])?.what.cpu || HOSTS[0]) : plural(HOSTS.length, "host");
  document.getElementById("subtitle").textContent = `${CELLS.length} stacks over ${LAYERS.length === 6 ? "the six" : LAYERS.length} layers, ${done} complete${HOSTS.length ? `, measured on ${where}` : ""}. Results: ${DATA.sources.join(", ")}.`;
  for (const make of [decide, understand, trust, data]) make();
  tellSilent();
  if (document.getElementById("claims")) document.getElementById("menu").prepend(el("div", {}, el("a", { href: "#claims" }, "Claims")));
  buildFilters();
  redraw();
  window.addEventListener("beforeprint", () => onPaper(true));
  window.addEventListener("afterprint", () => onPaper(false));
  // Colours and the folding of long names are chosen when a chart is drawn.
  for (const query of ["(prefers-color-scheme: dark)", "(min-width: 700px)", "(min-width: 1200px)"]) window.matchMedia(query).addEventListener("change", () => { if (!printing) redraw(); });
}
start();
