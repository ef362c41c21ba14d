// Why: what speaks for the first class, for the next one, and what decides between the two.
import {bytes, el, fixed} from "./dom.js";
import {paintOver} from "./pictures.js";
import {state} from "./state.js";
import {className, t} from "./text.js";
import {formula} from "./formula.js";

const name = (k) => className(state.data.class_names[k]);
let open = null; // the formula stays open, or closed, from picture to picture; of a row it is the reason

function overlay(pixels, values, title, said) {
  const canvas = el("canvas", {role: "img", ariaLabel: `${title} ${said}`, width: 1, height: 1});
  paintOver(canvas, pixels, values);
  return el(
    "figure",
    {className: "overlay"},
    canvas,
    el("figcaption", {}, el("b", {textContent: title}), el("span", {textContent: said})),
  );
}

function maps(answer) {
  const {first, second, sums} = answer.why;
  const pixels = bytes(answer.pixels);
  const a = bytes(answer.why.first_map, Int8Array);
  const b = bytes(answer.why.second_map, Int8Array);
  const difference = new Int8Array(a.length);
  for (let i = 0; i < a.length; i++) difference[i] = Math.max(-127, Math.min(127, a[i] - b[i]));
  const [s, u] = sums;
  return el(
    "div",
    {className: "overlays"},
    overlay(pixels, a, name(first), t("why.sum", fixed(s, 2))),
    overlay(pixels, b, name(second), t("why.sum", fixed(u, 2))),
    overlay(pixels, difference, t("why.rather", name(first), name(second)), t("why.more", fixed(s - u, 2))),
  );
}

function logits(answer) {
  const most = Math.max(...answer.logits.map(Math.abs), 1e-9);
  const order = answer.logits.map((_, k) => k);
  if (order.length > 12) order.sort((a, b) => answer.logits[b] - answer.logits[a]);
  return el(
    "div",
    {className: "logits"},
    ...order.slice(0, 12).map((k) => {
      const v = answer.logits[k];
      const bar = el("span", {className: v >= 0 ? "bar for" : "bar against"});
      bar.style.width = `${(50 * Math.abs(v)) / most}%`;
      const isFirst = k === answer.why?.first;
      return el(
        "div",
        {className: isFirst ? "bar-row first" : "bar-row"},
        el("span", {className: "name", textContent: name(k), title: name(k)}),
        el("span", {className: "track two-sided"}, bar),
        el("span", {className: "value", textContent: fixed(v, 2)}),
      );
    }),
  );
}

/** Fill the host with the reasons for an answer of /why or /predict. */
export function why(host, answer) {
  const hasMaps = Boolean(answer.pixels && answer.why?.first_map);
  const details = el(
    "details",
    {className: "formula", open: open ?? !hasMaps},
    el("summary", {textContent: t("formula.show")}),
    formula(answer),
  );
  details.querySelector("summary").addEventListener("click", () => {
    open = !details.open; // as it will be
  });
  host.replaceChildren(
    el(
      "div",
      {className: "why-grid"},
      hasMaps ? el("div", {}, el("p", {className: "soft", textContent: t("why.hint")}), maps(answer)) : "",
      el(
        "div",
        {},
        el("h4", {textContent: t("logits")}),
        el("p", {className: "soft", textContent: t("logits.hint")}),
        logits(answer),
      ),
    ),
    details,
  );
}
