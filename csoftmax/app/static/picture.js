// One picture or row in a window of its own: what it is, what the model says, why, and the formula.
import {$, el, percent} from "./dom.js";
import {get, tell} from "./api.js";
import {paintGrey} from "./pictures.js";
import {on, state} from "./state.js";
import {className, t} from "./text.js";
import {bars} from "./bars.js";
import {why} from "./why.js";

let shown = null;

export async function open(which) {
  const answer = await tell(() => get(`/why?set=${which.set}&row=${which.row}`));
  if (!answer) return;
  shown = {which, answer};
  show();
  if (!$("#picture").open) $("#picture").showModal();
}

function show() {
  const {which, answer} = shown;
  const name = (k) => className(state.data.class_names[k]);
  const first = answer.why?.first ?? answer.probabilities.indexOf(Math.max(...answer.probabilities));
  $("#picture-title").textContent = t("picture.title", name(answer.label), which.row, which.set === "train");
  const right = first === answer.label;
  const head = el("div", {className: "one"});
  if (answer.pixels) {
    const canvas = el("canvas", {
      className: "big",
      role: "img",
      ariaLabel: name(answer.label),
      width: 1,
      height: 1,
    });
    paintGrey(canvas, answer.pixels);
    head.append(canvas);
  }
  const list = el("div", {className: "bars"});
  bars(list, answer.probabilities, answer.label);
  head.append(
    el(
      "div",
      {},
      el(
        "p",
        {className: right ? "verdict right" : "verdict wrong"},
        el("b", {textContent: name(first)}),
        ` ${percent(answer.probabilities[first])} `,
        el("span", {textContent: right ? t("picture.right") : t("picture.wrong", name(answer.label))}),
      ),
      list,
    ),
  );
  const body = el("div", {className: "why-body"});
  why(body, answer);
  $("#picture-body").replaceChildren(head, el("h3", {textContent: t("why.title")}), body);
}

export function start() {
  const dialog = $("#picture");
  $("#picture-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => {
    shown = null;
  });
  on("language theme", () => {
    if (shown) show();
  });
}
