// Look: the confusion matrix, the pictures behind it, and each class by itself.
import {$, count, el, fixed, percent} from "./dom.js";
import {get} from "./api.js";
import {emit, gently, on, state, trained} from "./state.js";
import {className, t} from "./text.js";
import {calibration} from "./calibration.js";

const MOST_CELLS = 30;
let confusion = null;
let chosen = null; // [true, predicted]

const names = () => state.data.class_names.map(className);

async function fetchAll() {
  if (state.view !== "look" || !state.data) return;
  confusion = await get("/confusion").catch(() => null);
  show();
}

function show() {
  if (!confusion || !state.data) return;
  $("#look-said").textContent = trained()
    ? t(state.data.train_is_test ? "look.said.same" : "look.said", count(confusion.n), percent(confusion.accuracy), fixed(confusion.loss))
    : t("look.untrained");
  const n = confusion.confusion.length;
  $("#confusion-hint").dataset.t = n <= MOST_CELLS ? "confusion.hint" : "pairs.hint";
  $("#confusion-hint").textContent = t($("#confusion-hint").dataset.t);
  $("#confusion").replaceChildren(n <= MOST_CELLS ? matrix() : pairs());
  showClasses();
  calibration(confusion, names());
}

function cell(i, j, n, share) {
  const label = t("confusion.cell", names()[i], names()[j], count(n), i === j);
  const button = el("button", {
    type: "button",
    textContent: count(n),
    ariaLabel: label,
    title: label,
    ariaPressed: String(chosen?.[0] === i && chosen?.[1] === j),
  });
  button.dataset.cell = `${i}-${j}`;
  button.style.setProperty("--share", `${Math.round(38 * Math.sqrt(share))}%`);
  button.className = n === 0 ? "none" : i === j ? "right" : "wrong";
  button.addEventListener("click", () => {
    chosen = [i, j];
    for (const other of $("#confusion").querySelectorAll("button"))
      other.setAttribute("aria-pressed", String(other === button));
    emit("cell", chosen);
  });
  return button;
}

/** A column's name: Chinese is written downwards, other scripts are turned. */
const upright = (name) =>
  el("span", {className: /\p{Script=Han}/u.test(name) ? "upright" : "", textContent: name});

function matrix() {
  const table = el(
    "table",
    {className: "matrix"},
    el("caption", {className: "hidden", textContent: t("confusion")}),
  );
  const head = el(
    "tr",
    {},
    el("td", {}, el("span", {className: "corner", textContent: t("confusion.corner")})),
    ...names().map((name) => el("th", {scope: "col", title: name}, upright(name))),
  );
  table.append(el("thead", {}, head));
  const body = el("tbody");
  confusion.confusion.forEach((row, i) => {
    const total = row.reduce((a, b) => a + b, 0) || 1;
    body.append(
      el(
        "tr",
        {},
        el("th", {scope: "row", title: names()[i]}, el("span", {textContent: names()[i]})),
        ...row.map((n, j) => el("td", {}, cell(i, j, n, n / total))),
      ),
    );
  });
  table.append(body);
  return table;
}

/** Of many classes, the pairs that are taken for each other most. */
function pairs() {
  const all = [];
  confusion.confusion.forEach((row, i) =>
    row.forEach((n, j) => {
      if (n > 0 && i !== j) all.push([n, i, j]);
    }),
  );
  all.sort((a, b) => b[0] - a[0]);
  return el(
    "ol",
    {className: "pairs"},
    ...all
      .slice(0, 40)
      .map(([n, i, j]) =>
        el(
          "li",
          {},
          el("span", {textContent: t("confusion.pair", names()[i], names()[j])}),
          cell(i, j, n, 1),
        ),
      ),
  );
}

function showClasses() {
  const meter = (x) => {
    const bar = el("span", {className: "bar"});
    bar.style.width = `${100 * (x ?? 0)}%`;
    return el(
      "td",
      {},
      el(
        "span",
        {className: "meter"},
        el("span", {className: "track"}, bar),
        el("span", {className: "value", textContent: percent(x)}),
      ),
    );
  };
  if (names().length > 12)
    $("#classes").tabIndex = 0; // it scrolls, also by keyboard
  else $("#classes").removeAttribute("tabindex");
  const counts = confusion.confusion.map((row) => row.reduce((a, b) => a + b, 0));
  $("#classes").replaceChildren(
    el(
      "table",
      {className: "classes"},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          ...["class", "precision", "recall", "n"].map((key) =>
            el("th", {scope: "col", textContent: t(`classes.${key}`)}),
          ),
        ),
      ),
      el(
        "tbody",
        {},
        ...names().map((name, k) =>
          el(
            "tr",
            {},
            el("th", {scope: "row", textContent: name}),
            meter(confusion.precision[k]),
            meter(confusion.recall[k]),
            el("td", {className: "n", textContent: count(counts[k])}),
          ),
        ),
      ),
    ),
  );
}

export function start() {
  const soon = gently(700, fetchAll);
  on("view epoch status model", soon);
  on("data", () => {
    confusion = null;
    chosen = null;
    soon();
  });
  on("language theme", show);
}
