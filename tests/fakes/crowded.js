// What a test asks the browser about a page: texts that overflow, collide, are cut off or broken.
const shown = (e) => e.checkVisibility({ visibilityProperty: true });
const scrolls = (e) => /auto|scroll/.test(getComputedStyle(e).overflowX + getComputedStyle(e).overflowY);
const clips = (e) => /hidden|clip/.test(getComputedStyle(e).overflowX);
const blocks = new Map();
const block = (e) => { if (!blocks.has(e)) blocks.set(e, !/^(inline|contents)$/.test(getComputedStyle(e).display)); return blocks.get(e); };
const brief = (t) => t.trim().replace(/\s+/g, ' ').slice(0, 60);
function texts(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node; (node = walker.nextNode());) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest('svg, script, style, select, .hidden, .skip, #decide-h') || parent.matches('details:not([open])') || !shown(parent)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const rects = [...range.getClientRects()].filter((r) => r.width > 0.5);
    if (rects.length) found.push({ node, parent, rects, text: brief(node.data) });
  }
  return found;
}
// The texts that stick out of their box, or of the window.
function overflows(root) {
  const said = [];
  for (const { parent, rects, text } of texts(document.querySelector(root))) {
    for (const r of rects) {
      let nearest = true;
      for (let e = parent; e && e !== document.documentElement; e = e.parentElement) {
        if (!block(e)) continue;
        const box = e.getBoundingClientRect();
        if ((nearest || clips(e)) && (r.left < box.left - 1 || r.right > box.right + 1)) {
          said.push(`${text}: ${r.left.toFixed(0)} to ${r.right.toFixed(0)} in a ${e.tagName}.${e.className} from ${box.left.toFixed(0)} to ${box.right.toFixed(0)}`);
          break;
        }
        nearest = false;
        if (scrolls(e)) break;
        if (e === document.body && r.right > innerWidth + 1) said.push(`${text}: beyond the window`);
      }
    }
  }
  return said.slice(0, 12);
}
// Pairs of texts that lie on each other.
function collisions(root) {
  const boxes = [];
  for (const { node, parent, rects, text } of texts(document.querySelector(root))) {
    let view = { left: 0, top: -1e9, right: innerWidth, bottom: 1e9 };
    for (let e = parent; e && e !== document.body; e = e.parentElement) {
      if (!block(e) || !(scrolls(e) || clips(e))) continue;
      const b = e.getBoundingClientRect();
      view = { left: Math.max(view.left, b.left), top: Math.max(view.top, b.top), right: Math.min(view.right, b.right), bottom: Math.min(view.bottom, b.bottom) };
    }
    for (const r of rects) {
      const cut = { left: Math.max(r.left, view.left), top: Math.max(r.top, view.top), right: Math.min(r.right, view.right), bottom: Math.min(r.bottom, view.bottom) };
      if (cut.right - cut.left > 2 && cut.bottom - cut.top > 2) boxes.push({ ...cut, node, text });
    }
  }
  const grid = new Map(), said = [];
  const near = (a, b) => a.node !== b.node && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  for (const box of boxes) {
    for (let x = Math.floor(box.left / 80); x <= Math.floor(box.right / 80); x++) for (let y = Math.floor(box.top / 80); y <= Math.floor(box.bottom / 80); y++) {
      const key = `${x},${y}`;
      const others = grid.get(key) || [];
      for (const other of others) if (near(box, other)) said.push(`${box.text} | ${other.text}`);
      grid.set(key, [...others, box]);
    }
  }
  return [...new Set(said)].slice(0, 12);
}
// The texts of charts that are cut off, or lie on each other.
function chartTexts() {
  const corners = (t) => {
    const b = t.getBBox(), m = t.getScreenCTM();
    return [[b.x + 1, b.y + 1], [b.x + b.width - 1, b.y + 1], [b.x + b.width - 1, b.y + b.height - 1], [b.x + 1, b.y + b.height - 1]].map(([x, y]) => [m.a * x + m.c * y + m.e, m.b * x + m.d * y + m.f]);
  };
  // Two turned rectangles lie apart if some side of one has all of the other beyond it.
  const apart = (p, q) => [p, q].some((shape) => shape.some(([x, y], i) => {
    const [u, v] = shape[(i + 1) % 4], nx = v - y, ny = x - u;
    const on = (points) => points.map(([a, b]) => a * nx + b * ny);
    return Math.max(...on(p)) <= Math.min(...on(q)) || Math.max(...on(q)) <= Math.min(...on(p));
  }));
  const said = [];
  for (const chart of document.querySelectorAll('.chart[data-chart]')) {
    if (!shown(chart)) continue;
    const box = chart.getBoundingClientRect();
    const all = [...chart.querySelectorAll('svg text')].filter((t) => t.textContent.trim() && shown(t) && !t.closest('.hoverlayer')).map((t) => ({ text: brief(t.textContent), at: corners(t) }));
    all.forEach(({ text, at }, i) => {
      if (at.some(([x, y]) => x < box.left - 1 || x > box.right + 1 || y < box.top - 1 || y > box.bottom + 1)) said.push(`${chart.dataset.chart}: ${text} is cut off`);
      for (const other of all.slice(i + 1)) if (!apart(at, other.at)) said.push(`${chart.dataset.chart}: ${text} | ${other.text}`);
    });
  }
  return said.slice(0, 12);
}
// Words of up to 16 letters that are broken between lines.
function brokenWords(root) {
  const said = [];
  for (const { node } of texts(document.querySelector(root))) {
    for (const word of node.data.matchAll(/[A-Za-z]{2,16}/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((r) => Math.round(r.top / 4))).size > 1) said.push(word[0]);
    }
  }
  return said.slice(0, 12);
}
