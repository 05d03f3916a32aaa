// Draws the report. Everything shown comes from REPORT; texts are set as texts, never as markup.

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const shape = (tag, attributes = {}, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
};

const PROCESS = ["kill", "wipe", "terminate", "pause", "power failure", "bit flipped", "end cut off"];
// Of all nodes at once.
const LOSS = "packet loss";
const isProcess = (fault) => PROCESS.includes(fault.what);
const OUTCOMES = [
  ["ok", "--ok", "accepted"],
  ["refused", "--refused", "refused"],
  ["gone", "--gone", "410"],
  ["unknown", "--unknown", "unknown"],
];
const LEFT = 112;
const RIGHT = 14;

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const isBroken = (chapter) => Object.values(chapter.invariants).some((breaks) => breaks.length > 0);
const missed = (chapter) => chapter.figures.filter((figure) => !figure.held).length;
const pill = (kind, text) => element("span", { class: `pill ${kind}` }, text);

// The lanes of a chapter, from the top: what is drawn in each, and how high it is.
function lanesOf({ timeline, nodes }) {
  // Faults of processes and of the network may meet on a node: each kind has its row then.
  const on = (kind) => timeline.faults.some((fault) => fault.what !== LOSS && isProcess(fault) === kind);
  const height = on(true) && on(false) ? 47 : on(true) || on(false) ? 30 : 14;
  const lanes = nodes.map((name, node) => ({ kind: "node", name, node, height }));
  if (timeline.faults.some((fault) => fault.what === LOSS)) lanes.push({ kind: "all", name: "all nodes", height: 17 });
  if (timeline.connections.some((counts) => counts.some((count) => count > 0))) {
    const layers = timeline.connections.map((counts, node) => [counts, `--node${node}`]);
    lanes.push({ kind: "stack", name: "connections", layers, height: 58 });
  }
  for (const [name, counts] of [
    ["writes", timeline.writes],
    ["reads", timeline.reads],
    ["pushes", timeline.pushes],
    ["events", { ok: timeline.events }],
  ]) {
    const layers = OUTCOMES.filter(([key]) => counts[key]).map(([key, color]) => [counts[key], color]);
    const used = layers.some(([counts]) => counts.some((count) => count > 0));
    if (used) lanes.push({ kind: "stack", name, layers, height: name === "events" ? 36 : 58 });
  }
  let y = 18;
  for (const lane of lanes) {
    lane.y = y;
    y += lane.height + 14;
  }
  return { lanes, height: y + 10 };
}

function ticks(seconds) {
  const steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];
  const step = steps.find((step) => seconds / step <= 12) || 7200;
  return Array.from({ length: Math.floor(seconds / step) + 1 }, (_, at) => at * step);
}

function draw(chapter, width) {
  const { timeline, nodes } = chapter;
  const { lanes, height } = lanesOf(chapter);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  svg.append(shape("title", {}, `${chapter.name}: faults, leaders, connections, writes and pushes over time`));
  const x = (seconds) => LEFT + (seconds / timeline.seconds) * (width - LEFT - RIGHT);
  const bottom = height - 22;
  // Loss is on all nodes at once, and is one band.
  const bands = timeline.faults.filter((fault) => fault.what !== LOSS || fault.node === 0);
  for (const fault of bands) {
    const fill = isProcess(fault) ? "var(--band)" : "var(--netband)";
    const width = Math.max(1, x(fault.until) - x(fault.from));
    svg.append(shape("rect", { x: x(fault.from), y: 8, width, height: bottom - 8, fill }));
  }
  for (const at of ticks(timeline.seconds)) {
    svg.append(shape("line", { x1: x(at), x2: x(at), y1: 8, y2: bottom, stroke: "var(--grid)" }));
    svg.append(shape("text", { x: x(at), y: height - 6, "text-anchor": "middle" }, `${at} s`));
  }
  for (const mark of timeline.marks) {
    const line = { x1: x(mark.at), x2: x(mark.at), y1: 8, y2: bottom, stroke: "var(--ink3)" };
    const drawn = shape("line", { ...line, "stroke-dasharray": "2 3" });
    drawn.append(shape("title", {}, mark.text));
    svg.append(drawn);
  }
  for (const lane of lanes) {
    const middle = lane.kind === "stack" ? lane.y + 12 : lane.y + lane.height / 2 + 4;
    svg.append(shape("text", { x: 0, y: middle, class: "lane" }, lane.name));
    if (lane.kind === "node") drawNode(svg, lane, timeline, nodes, x);
    if (lane.kind === "all") {
      const losses = timeline.faults.filter((fault) => fault.what === LOSS && fault.node === 0);
      for (const loss of losses) drawFault(svg, loss, "all nodes", lane.y, x, width);
    }
    if (lane.kind === "stack") drawStack(svg, lane, timeline, x);
  }
  return { svg, x, height, bottom };
}

// A node: a strip in the colour of the leader that it follows, and below it what is done to the node.
function drawNode(svg, lane, timeline, nodes, x) {
  const dot = { cx: 26, cy: lane.y + lane.height / 2, r: 4, fill: `var(--node${lane.node})` };
  svg.append(shape("circle", dot));
  for (const span of timeline.leaders.filter((span) => span.node === lane.node)) {
    const leader = nodes.indexOf(span.what);
    const fill = leader < 0 ? "var(--ink3)" : `var(--node${leader})`;
    const own = leader === lane.node;
    const strip = { x: x(span.from), y: lane.y, width: Math.max(1, x(span.until) - x(span.from)), height: 8, rx: 2 };
    const drawn = shape("rect", { ...strip, fill, opacity: own ? 1 : 0.45 });
    drawn.append(shape("title", {}, own ? `${lane.name} leads` : `${lane.name} follows ${span.what}`));
    svg.append(drawn);
  }
  const faults = timeline.faults.filter((fault) => fault.node === lane.node && fault.what !== LOSS);
  for (const kind of [true, false]) {
    const row = faults.filter((fault) => isProcess(fault) === kind);
    const y = lane.y + (lane.height > 40 && !kind ? 29 : 11);
    row.forEach((fault, at) => {
      const room = at + 1 < row.length ? x(row[at + 1].from) : x(timeline.seconds) + RIGHT;
      drawFault(svg, fault, lane.name, y, x, room);
    });
  }
}

// A bar with its name in it, or where it is too short beside it, if there is room.
function drawFault(svg, fault, whom, y, x, room) {
  const [from, until] = [x(fault.from), x(fault.until)];
  const fill = isProcess(fault) ? "var(--process)" : "var(--net)";
  const drawn = shape("rect", { x: from, y, width: Math.max(2, until - from), height: 17, rx: 4, fill });
  drawn.append(shape("title", {}, `${fault.what} of ${whom}, ${(fault.until - fault.from).toFixed(1)} s`));
  const long = fault.what.length * 6.4 + 8;
  const inside = until - from > long;
  svg.append(drawn);
  if (!inside && until + long > room) return;
  const style = `fill: ${inside ? "#fff" : fill}; font-weight: 600`;
  svg.append(shape("text", { x: inside ? from + 6 : until + 4, y: y + 12.5, style }, fault.what));
}

function scale(svg, lane, most, x, timeline) {
  const base = lane.y + lane.height;
  svg.append(shape("line", { x1: LEFT, x2: x(timeline.seconds), y1: base, y2: base, stroke: "var(--edge)" }));
  svg.append(shape("text", { x: LEFT - 6, y: lane.y + 9, "text-anchor": "end" }, most));
  return (count) => base - (count / Math.max(1, most)) * lane.height;
}

// Layers one upon the other: counts per slice, each with its colour.
function drawStack(svg, lane, timeline, x) {
  const sums = lane.layers[0][0].map((_, at) => lane.layers.reduce((sum, [counts]) => sum + counts[at], 0));
  const y = scale(svg, lane, Math.max(...sums), x, timeline);
  sums.forEach((_, at) => {
    const [from, until] = [at * timeline.slice, Math.min(timeline.seconds, (at + 1) * timeline.slice)];
    const width = Math.max(1, x(until) - x(from) - 0.6);
    let below = 0;
    for (const [counts, color] of lane.layers) {
      const count = counts[at];
      if (!count) continue;
      const top = y(below + count);
      svg.append(shape("rect", { x: x(from), y: top, width, height: y(below) - top, fill: `var(${color})` }));
      below += count;
    }
  });
}

// What is under the pointer, in words.
function tipOf(chapter, seconds) {
  const { timeline, nodes } = chapter;
  const at = Math.min(Math.floor(seconds / timeline.slice), timeline.events.length - 1);
  const row = (what, value) => element("div", {}, element("span", {}, what), element("b", {}, value));
  const rows = [row("time", `${seconds.toFixed(1)} s`)];
  for (const fault of timeline.faults.filter((fault) => fault.from <= seconds && seconds <= fault.until)) {
    rows.push(row(nodes[fault.node], fault.what));
  }
  const followed = timeline.leaders.filter((span) => span.from <= seconds && seconds <= span.until);
  const leaders = [...new Set(followed.map((span) => span.what))];
  rows.push(row("leader", leaders.join(" and ") || "none known"));
  const open = timeline.connections.map((counts) => counts[at]);
  if (open.some((count) => count > 0)) rows.push(row("connections", open.join(" · ")));
  for (const [name, counts] of [["writes", timeline.writes], ["reads", timeline.reads], ["pushes", timeline.pushes]]) {
    const said = OUTCOMES.filter(([key]) => counts[key][at]).map(([key, , word]) => `${counts[key][at]} ${word}`);
    if (said.length === 0) continue;
    rows.push(row(name, `${said.join(", ")}; ≤${counts.slowest[at].toFixed(2)} s`));
  }
  if (timeline.events[at]) rows.push(row("events", timeline.events[at]));
  return rows;
}

function plot(chapter) {
  const place = element("div", { class: "plot" });
  const tip = element("div", { class: "tip", hidden: "" });
  let drawn;
  const redraw = () => {
    const width = Math.max(480, place.clientWidth);
    drawn = draw(chapter, width);
    drawn.width = width;
    drawn.hair = shape("line", { y1: 8, y2: drawn.bottom, stroke: "var(--ink2)", visibility: "hidden" });
    drawn.svg.append(drawn.hair);
    place.replaceChildren(drawn.svg, tip);
  };
  place.addEventListener("pointermove", (event) => {
    const box = place.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width) * drawn.width;
    const seconds = ((across - LEFT) / (drawn.width - LEFT - RIGHT)) * chapter.timeline.seconds;
    if (seconds < 0 || seconds > chapter.timeline.seconds) return;
    drawn.hair.setAttribute("x1", across);
    drawn.hair.setAttribute("x2", across);
    drawn.hair.setAttribute("visibility", "visible");
    tip.replaceChildren(...tipOf(chapter, seconds));
    tip.hidden = false;
    const left = event.clientX - box.left;
    tip.style.left = `${left > box.width - 240 ? left - tip.offsetWidth - 14 : left + 14}px`;
    tip.style.top = `${Math.min(event.clientY - box.top, box.height - tip.offsetHeight)}px`;
  });
  place.addEventListener("pointerleave", () => {
    tip.hidden = true;
    drawn.hair.setAttribute("visibility", "hidden");
  });
  new ResizeObserver(redraw).observe(place);
  return place;
}

function legend(chapter) {
  const item = (color, text) => {
    const swatch = element("i");
    swatch.style.background = `var(${color})`;
    return element("span", {}, swatch, text);
  };
  const items = chapter.nodes.map((name, node) => item(`--node${node}`, name));
  items.push(element("span", {}, "strip: the leader that the node follows"));
  items.push(...OUTCOMES.map(([, color, word]) => item(color, word === "410" ? "410, gone" : word)));
  items.push(item("--process", "fault of a process"), item("--net", "fault of the network"));
  return element("div", { class: "legend" }, ...items);
}

function verdicts(chapter) {
  const said = [isBroken(chapter) ? pill("broken", "✗ BROKEN") : pill("held", "✓ all invariants held")];
  if (missed(chapter)) said.push(pill("missed", `${plural(missed(chapter), "figure")} missed`));
  return said;
}

function section(chapter) {
  const card = element("section", { class: "card", id: chapter.name });
  card.append(element("div", { class: "title" }, element("h2", {}, chapter.name), ...verdicts(chapter)));
  card.append(element("p", { class: "what" }, `${chapter.what}; ${plural(chapter.cycles, "cycle")}`));
  const broken = Object.entries(chapter.invariants).filter(([, breaks]) => breaks.length > 0);
  if (broken.length > 0) {
    const said = broken.flatMap(([name, breaks]) => breaks.map((text) => [name, text]));
    const line = ([name, text]) => element("p", {}, element("b", {}, `${name} `), text);
    card.append(element("div", { class: "why" }, ...said.map(line)));
  }
  card.append(plot(chapter), legend(chapter));
  const rows = chapter.figures.map(({ what, seen, toHold, held }) => {
    const verdict = toHold === null ? "" : held ? pill("held", "✓ held") : pill("missed", "✗ MISSED");
    return element("tr", {}, element("td", {}, what), element("td", { class: "seen" }, seen),
      element("td", { class: "bound" }, toHold || ""), element("td", {}, verdict));
  });
  const items = Object.entries(chapter.invariants).map(([name, breaks]) => {
    const bad = breaks.length > 0;
    const text = element(bad ? "b" : "span", {}, name.replaceAll("_", " "));
    const sign = element("span", { class: "sign" }, bad ? "✗" : "✓");
    return element("li", { class: bad ? "is-broken" : "" }, sign, text);
  });
  const figures = element("div", {}, element("h3", {}, "Figures"), element("table", {}, ...rows));
  const invariants = element("div", {}, element("h3", {}, "Invariants"), element("ul", {}, ...items));
  card.append(element("div", { class: "columns" }, figures, invariants));
  return card;
}

function overview() {
  const tiles = REPORT.chapters.map((chapter) => {
    const kind = isBroken(chapter) ? "is-broken" : missed(chapter) ? "is-missed" : "";
    const held = missed(chapter) ? `held, ${plural(missed(chapter), "figure")} missed` : "held";
    const count = plural(Object.keys(chapter.invariants).length, "invariant");
    const text = `${isBroken(chapter) ? "broken" : held}; ${count}, ${chapter.timeline.seconds.toFixed(0)} s`;
    const tile = [element("b", {}, chapter.name), element("span", {}, text)];
    return element("a", { href: `#${chapter.name}`, class: kind }, ...tile);
  });
  const out = REPORT.notRun.map(([name, why]) =>
    element("a", { class: "is-out" }, element("b", {}, `${name}: not run`), element("span", {}, why)));
  return element("nav", { class: "overview" }, ...tiles, ...out);
}

function page() {
  const broken = REPORT.chapters.filter(isBroken).length;
  const verdict = broken ? pill("broken", `✗ ${broken} of ${REPORT.chapters.length} scenarios broken`)
    : pill("held", `✓ all invariants held in ${REPORT.chapters.length} scenarios`);
  const theme = element("button", { type: "button" }, "light / dark");
  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const dark = (root.dataset.theme || preferred) === "dark";
    root.dataset.theme = dark ? "light" : "dark";
  });
  const facts = element("div", { class: "facts" }, element("span", {}, "seed ", element("code", {}, REPORT.seed)),
    element("span", {}, "run again: ", element("code", {}, REPORT.command)));
  document.getElementById("main").append(
    element("header", {}, element("h1", {}, "Chaos report"), verdict, theme), facts, overview(),
    ...REPORT.chapters.map(section));
}

page();
