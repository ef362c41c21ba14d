// The reliability diagram: of the pictures to which the model gives 80 %, are 80 % of that class?
import {$, count, el, percent} from "./dom.js";
import {t} from "./text.js";

const NS = "http://www.w3.org/2000/svg";
const SIZE = 300;
const LEFT = 44;
const LOW = 34;
let chosen = -1;
let last = null;

function shape(tag, attributes, text) {
  const node = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const x = (p) => LEFT + p * SIZE;
const y = (p) => 8 + (1 - p) * SIZE;

function diagram(bins) {
  const svg = shape("svg", {
    viewBox: `0 0 ${SIZE + LEFT + 12} ${SIZE + LOW + 14}`,
    role: "img",
    "aria-label": t(
      "calibration.label",
      bins
        .filter((b) => b[2] > 0)
        .map(([p, share, n]) => t("calibration.bin", percent(p, 0), percent(share, 0), count(n)))
        .join("; "),
    ),
  });
  for (const p of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      shape("line", {class: "grid", x1: x(0), x2: x(1), y1: y(p), y2: y(p)}),
      shape("text", {x: x(0) - 8, y: y(p) + 4, "text-anchor": "end"}, percent(p, 0)),
      shape(
        "text",
        {x: x(p), y: y(0) + 18, "text-anchor": p === 1 ? "end" : p === 0 ? "start" : "middle"},
        percent(p, 0),
      ),
    );
  }
  svg.append(shape("line", {class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1)}));
  const filled = bins.filter((b) => b[2] > 0);
  const most = Math.max(...filled.map((b) => b[2]), 1);
  svg.append(
    shape("polyline", {class: "curve", points: filled.map(([p, share]) => `${x(p)},${y(share)}`).join(" ")}),
  );
  for (const [p, share, n] of filled) {
    const dot = shape("circle", {class: "point", cx: x(p), cy: y(share), r: 3 + 7 * Math.sqrt(n / most)});
    dot.append(shape("title", {}, t("calibration.bin", percent(p, 0), percent(share, 0), count(n))));
    svg.append(dot);
  }
  svg.append(
    shape("text", {x: x(0.5), y: y(0) + 36, "text-anchor": "middle", class: "title"}, t("calibration.x")),
  );
  return svg;
}

/** Show the diagram of all classes or of the chosen one. */
export function calibration(confusion, names) {
  last = [confusion, names];
  const select = $("#calibration-class");
  if (select.options.length !== names.length + 1 || select.options[1]?.textContent !== names[0]) {
    select.replaceChildren(
      el("option", {value: "-1", textContent: t("gallery.all")}),
      ...names.map((name, k) => el("option", {value: String(k), textContent: name})),
    );
    chosen = Math.min(chosen, names.length - 1);
    select.value = String(chosen);
  }
  const all = confusion.calibration;
  const entry = all.find((c) => (c.class ?? -1) === chosen) ?? all[chosen < 0 ? all.length - 1 : chosen];
  const bins = Array.isArray(entry) ? entry : (entry?.bins ?? []);
  $("#calibration").replaceChildren(
    diagram(bins),
    el("p", {className: "soft small", textContent: t("calibration.y")}),
  );
}

export function start() {
  $("#calibration-class").addEventListener("change", (event) => {
    chosen = Number(event.target.value);
    if (last) calibration(...last);
  });
}
