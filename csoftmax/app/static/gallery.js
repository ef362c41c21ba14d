// The pictures (or a table's rows) behind the numbers: by class, by cell, or the surest mistakes.
import {$, count, el, percent, segments, short} from "./dom.js";
import {get} from "./api.js";
import {paintGrey} from "./pictures.js";
import {gently, on, pictures, state, trained} from "./state.js";
import {className, t} from "./text.js";
import {open} from "./picture.js";

const PAGE = innerWidth < 760 ? 12 : 48;
const what = {kind: "test", of: -1, cell: null, start: 0};
let shown = [];
let turn = 0; // of the newest request; what comes late is dropped

const set = () => (what.kind === "train" ? "train" : "test");
const name = (k) => className(state.data.class_names[k]);

function path() {
  const page = `start=${what.start}&count=${PAGE}`;
  if (what.kind === "cell") return `/cell?true=${what.cell[0]}&predicted=${what.cell[1]}&${page}`;
  if (what.kind === "mistakes") return `/mistakes?count=${PAGE}`;
  return `/samples?set=${set()}&class=${what.of}&${page}`;
}

async function fill(more = false) {
  if (state.view !== "look" || !state.data) return;
  if (!more) what.start = 0;
  const mine = ++turn;
  const answer = await get(path()).catch(() => null);
  if (!answer || mine !== turn) return;
  const items = answer.items ?? answer;
  shown = more ? [...shown, ...items] : items;
  const total = answer.total ?? items.length;
  $("#gallery-title").textContent = title();
  $("#gallery-count").textContent = t("gallery.count", count(shown.length), count(total), pictures());
  $("#gallery-more").hidden = shown.length >= total;
  show();
}

function title() {
  if (what.kind === "cell") {
    const [i, j] = what.cell;
    return i === j ? t("gallery.right", name(i)) : t("gallery.cell", name(i), name(j));
  }
  return t(`gallery.title.${what.kind}`);
}

function verdict(item) {
  const right = item.label === item.predicted;
  return {
    right,
    said: t(
      right ? "shot.right" : "shot.wrong",
      name(item.label),
      name(item.predicted),
      percent(item.probability, 0),
    ),
  };
}

function shot(item) {
  const {right, said} = verdict(item);
  const button = el("button", {
    type: "button",
    className: "shot",
    ariaLabel: trained() ? said : name(item.label),
    title: said,
  });
  const canvas = el("canvas", {width: 1, height: 1, ariaHidden: "true"});
  paintGrey(canvas, item.pixels);
  button.append(canvas, el("span", {className: "of", textContent: name(item.label)}));
  if (trained()) {
    button.classList.add(right ? "right" : "wrong");
    button.append(
      el("span", {
        className: "as",
        textContent: right ? `✓ ${percent(item.probability, 0)}` : `✗ ${name(item.predicted)}`,
      }),
    );
    if (!right) button.append(el("span", {className: "sure", textContent: percent(item.probability, 0)}));
  }
  button.addEventListener("click", () => open({set: set(), row: item.row}));
  return button;
}

function row(item) {
  const {right, said} = verdict(item);
  const button = el(
    "button",
    {type: "button", className: "line", ariaLabel: said},
    el("b", {textContent: name(item.label)}),
    el("span", {
      className: right ? "right" : "wrong",
      textContent: `${right ? "✓" : "✗"} ${name(item.predicted)} ${percent(item.probability, 0)}`,
    }),
    el("span", {
      className: "values",
      textContent: item.values
        .slice(0, 6)
        .map(([key, x]) => `${key} ${short(x)}`)
        .join(" · "),
    }),
  );
  button.addEventListener("click", () => open({set: set(), row: item.row}));
  return button;
}

function show() {
  const host = $("#gallery");
  host.className = pictures() ? "gallery" : "gallery lines";
  host.replaceChildren(...shown.map((item) => (item.pixels ? shot(item) : row(item))));
  if (shown.length === 0)
    host.replaceChildren(
      el("p", {className: "empty", textContent: t(trained() ? "gallery.none" : "gallery.untrained")}),
    );
}

function build() {
  if (!state.data) return;
  const kinds = ["test", "train", "mistakes"];
  segments(
    $("#gallery-kinds"),
    "gallery-kind",
    kinds.map((k) => [k, t(`gallery.${k}`)]),
    what.kind,
    (kind) => {
      what.kind = kind;
      what.cell = null;
      $("#gallery-class").disabled = kind === "mistakes";
      fill();
    },
  );
  $("#gallery-class").replaceChildren(
    el("option", {value: "-1", textContent: t("gallery.all")}),
    ...state.data.class_names.map((_, k) => el("option", {value: String(k), textContent: name(k)})),
  );
  $("#gallery-class").value = String(what.of);
  fill();
}

export function start() {
  $("#gallery-class").addEventListener("change", (event) => {
    what.of = Number(event.target.value);
    if (what.kind === "cell") {
      what.kind = "test";
      build();
    } else fill();
  });
  $("#gallery-more").addEventListener("click", () => {
    what.start += PAGE;
    fill(true);
  });
  on("cell", (cell) => {
    what.kind = "cell";
    what.cell = cell;
    for (const input of $("#gallery-kinds").querySelectorAll("input")) input.checked = false;
    fill().then(() => {
      if (innerWidth < 980) $("#gallery-title").focus();
    });
  });
  on("data", () => {
    Object.assign(what, {kind: "test", of: -1, cell: null});
    build();
  });
  on("language", build);
  on("view", () => fill());
  on(
    "epoch status model",
    gently(1500, () => {
      if (what.start === 0) fill();
    }),
  );
}
