// Probabilities as bars, one a class, always in the classes' order, so that none jumps.
import {el, percent} from "./dom.js";
import {state} from "./state.js";
import {className, t} from "./text.js";

const MOST = 12;

/** Fill the host, reusing its rows so that the bars glide; `probabilities` null: empty bars. */
export function bars(host, probabilities, label = null) {
  const names = state.data.class_names;
  let order = names.map((_, k) => k);
  if (names.length > MOST && probabilities) {
    order.sort((a, b) => probabilities[b] - probabilities[a]);
  }
  order = order.slice(0, MOST);
  if (host.children.length !== order.length) {
    host.replaceChildren(
      ...order.map(() =>
        el(
          "div",
          {className: "bar-row"},
          el("span", {className: "name"}),
          el("span", {className: "track"}, el("span", {className: "bar"})),
          el("span", {className: "value"}),
        ),
      ),
    );
  }
  const first = probabilities ? probabilities.indexOf(Math.max(...probabilities)) : -1;
  order.forEach((k, at) => {
    const row = host.children[at];
    const p = probabilities ? probabilities[k] : 0;
    row.className = k === first ? "bar-row first" : "bar-row";
    row.dataset.class = String(k);
    row.children[0].textContent =
      k === label ? `${className(names[k])} ${t("is.label")}` : className(names[k]);
    row.children[0].title = className(names[k]);
    row.children[1].firstChild.style.width = `${100 * p}%`;
    row.children[2].textContent = probabilities ? percent(p) : "";
  });
}
