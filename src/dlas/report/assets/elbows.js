"use strict";
// Accuracy and the metric along a parameter of a technique, with the elbow marked.

let bendShown = null;
const bendKey = (b) => [b.factor, b.technique, b.context].join("\u0001");
const bent = () => (TABLES.elbows || []).filter((b) => b.levels.length > 2);
function noElbow() {
  if (!(TABLES.elbows || []).length) return "the goals say nothing of accuracy, or no technique has levels that are numbers and accuracy at each.";
  return bent().length ? "" : "two levels make no curve.";
}
// Where a curve is: the other layers' choices, and what else of its own layer differs in this study.
function curveAt(b) {
  const c = CELLS[b.rows[b.rows.length - 1]];
  const layer = EST.ordered.find((o) => o.name === b.factor).layer;
  const several = (p) => EST.orders[p].filter((l) => l !== EMPTY).length > 1;
  const own = EST.parameters.filter((p) => p.startsWith(`${layer}.`) && p !== b.factor && levelOf(c, p) !== EMPTY && several(p)).map((p) => `${p}=${levelOf(c, p)}`);
  return [...MANY.filter((l) => l !== layer).map((l) => short(l, c[l])), ...own, ...(HOSTS.length > 1 ? [`on ${c.host}`] : [])].join(" · ");
}
const endOf = (b) => (isNumber(b.high) ? b.high : b.levels[b.levels.length - 1]);
function bendSaid(b) {
  const interval = !isNumber(b.low) ? "" : isNumber(b.high) ? range(b.low, b.high) : ` (${num(b.low)} or more)`;
  const where = `The elbow is at ${num(b.level)}${interval}`;
  if (!isNumber(b.next)) return `${where}: each step up to there saves more than it costs.`;
  const gives = `${b.gain < 0 ? "adds" : "saves"} ${percent(Math.abs(b.gain))} of ${plainOf(METRIC)}`;
  const takes = b.cost > 0 ? ` and takes ${percent(b.cost)} of the accuracy that may be given up (${percent(b.allowed)})` : "";
  return `${where}: the step from there to ${num(b.next)} ${gives}${takes}.`;
}
function drawElbow(body) {
  const all = bent().filter((b) => b.rows.every(seen));
  const one = all.find((b) => bendKey(b) === bendShown) || all.find((b) => isNumber(b.next) && b.level > b.levels[0]) || all[0] || bent()[0];
  bendShown = bendKey(one);
  const title = (b) => `${b.factor}: ${curveAt(b)} (elbow at ${num(b.level)})`;
  part(body, "pick", () => el("div", { class: "picks" }, pick("along", bent().slice(0, 60).map((b) => [bendKey(b), title(b)]), bendShown, (v) => { bendShown = v; drawElbow(body); })));
  const ends = (c, name) => (name === "accuracy" ? [c.accuracy_low, c.accuracy_high] : spanOf(c));
  const points = (name) => one.rows.map((row, i) => { const [low, high] = ends(CELLS[row], name); return { level: one.levels[i], row, value: valueOf(CELLS[row], name), low, high }; });
  const line = (name, i, axis) => {
    const own = points(name);
    return { type: "scatter", mode: "lines+markers", name: titleOf(name), x: own.map((p) => p.level), y: own.map((p) => p.value), error_y: bars(own, "value"), customdata: own.map((p) => p.row), yaxis: axis, line: { color: colour(i), dash: dash(i), width: 2 }, marker: { color: colour(i), symbol: symbol(i), size: 8 },
      text: own.map((p) => amount(name, p.value) + range(p.low, p.high)), hovertemplate: `at %{x}: %{text}<extra></extra>` };
  };
  const log = one.levels[0] > 0 && one.levels[one.levels.length - 1] / one.levels[0] >= 8;
  const shapes = [{ ...upright(one.level), line: { color: theme("bad"), width: 1.5 } }];
  if (isNumber(one.low)) shapes.push({ type: "rect", yref: "paper", y0: 0, y1: 1, x0: one.low, x1: endOf(one), fillcolor: theme("bad"), opacity: 0.1, line: { width: 0 } });
  const axis = (name, domain) => ({ domain, automargin: true, gridcolor: theme("line"), linecolor: theme("line"), zeroline: false, nticks: 5, title: { text: fold(titleOf(name), 18), standoff: 8 } });
  const cost = points("accuracy");
  chart(part(body, "chart"), "elbow", { title: `Accuracy and ${plainOf(METRIC)} along ${one.factor}, ${curveAt(one)}.`, note: `${bendSaid(one)}${noteUnknown()}`,
    traces: all.includes(one) ? [line(METRIC, 0, "y"), line("accuracy", 1, "y2")] : [], height: 310,
    layout: { xaxis: { type: log ? "log" : "linear", anchor: "y2", tickvals: one.levels, ticktext: one.levels.map(String), title: { text: one.factor } }, yaxis: axis(METRIC, [0.56, 1]), yaxis2: axis("accuracy", [0, 0.44]), shapes },
    head: [one.factor, titleOf(METRIC), "low", "high", "accuracy", "low", "high", "cell"],
    rows: () => points(METRIC).map((p, i) => [p.level, p.value, p.low, p.high, cost[i].value, cost[i].low, cost[i].high, cellButton(p.row)]) });
}
