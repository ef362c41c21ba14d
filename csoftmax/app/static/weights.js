// The weights as pictures, one a class, drawn anew with every update; for tables the strongest features.
import {$, bytes, el, fixed} from "./dom.js";
import {get} from "./api.js";
import {paintKey, paintSigned} from "./pictures.js";
import {gently, on, perFrame, pictures, state} from "./state.js";
import {className, t} from "./text.js";

const MOST_TILES = 60;
let tiles = [];
let chosen = 0; // the class whose features are listed
let chosenTile = -1;
let drawn = 0;

function build() {
  const isTable = !pictures();
  const names = state.data.class_names;
  chosen = Math.min(chosen, names.length - 1);
  $("#weights-title").textContent = t(isTable ? "features" : "weights");
  $("#weights-said").textContent = t(isTable ? "features.hint" : "weights.hint");
  const key = el("canvas", {className: "scale", ariaHidden: "true"});
  $("#weights-key").replaceChildren(
    el("span", {textContent: t("against")}),
    key,
    el("span", {textContent: t("for")}),
  );
  $("#weights-key").hidden = isTable;
  const host = $("#weights");
  host.className = isTable ? "features" : "weights";
  if (isTable) {
    listFeatures();
    return;
  }
  paintKey(key);
  tiles = names.slice(0, MOST_TILES).map(() => el("canvas", {role: "img", width: 1, height: 1}));
  host.replaceChildren(
    ...tiles.map((tile, k) => {
      const name = className(names[k]);
      tile.setAttribute("aria-label", t("weights.of", name));
      return el("figure", {}, tile, el("figcaption", {textContent: name, title: name}));
    }),
  );
  if (names.length > MOST_TILES)
    host.append(el("p", {className: "soft", textContent: t("weights.more", names.length - MOST_TILES)}));
  mark();
  draw();
}

function draw() {
  const w = state.weights;
  if (!w || !pictures() || w.shape[0] !== state.data.class_names.length) return;
  const values = bytes(w.int8, Int8Array);
  const [, height, width] = w.shape;
  tiles.forEach((tile, k) => paintSigned(tile, values, height, width, k * height * width));
  document.body.dataset.weights = String(++drawn);
}

const redraw = perFrame(draw);

/** Mark the weights of the class that the drawing is taken for. */
function mark() {
  tiles.forEach((tile, k) => tile.parentElement.classList.toggle("chosen", k === chosenTile));
}

// ---- tables

async function listFeatures() {
  const names = state.data.class_names;
  const host = $("#weights");
  const select = el(
    "select",
    {id: "features-class"},
    ...names.map((name, k) =>
      el("option", {value: String(k), textContent: className(name), selected: k === chosen}),
    ),
  );
  select.addEventListener("change", () => {
    chosen = Number(select.value);
    fill();
  });
  host.replaceChildren(
    el("label", {className: "inline"}, el("span", {textContent: t("gallery.class")}), select),
    el("div", {className: "feature-lists", id: "feature-lists"}),
  );
  fill();
}

async function fill() {
  const list = await get(`/features?class=${chosen}&count=20`).catch(() => null);
  const host = $("#feature-lists");
  if (!list || !host) return;
  const most = Math.max(...[...list.for, ...list.against].map(([, w]) => Math.abs(w)), 1e-12);
  const side = (title, rows) =>
    el(
      "div",
      {},
      el("h4", {textContent: title}),
      rows.length === 0
        ? el("p", {className: "soft", textContent: t("none")})
        : el(
            "ol",
            {className: "feature-list"},
            ...rows.map(([name, w]) => {
              const bar = el("span", {className: w > 0 ? "bar for" : "bar against"});
              bar.style.width = `${(100 * Math.abs(w)) / most}%`;
              return el(
                "li",
                {},
                el("span", {className: "name", textContent: name, title: name}),
                el("span", {className: "track"}, bar),
                el("span", {className: "value", textContent: fixed(w)}),
              );
            }),
          ),
    );
  host.replaceChildren(side(t("for"), list.for), side(t("against"), list.against));
}

const refill = gently(500, () => {
  if (!pictures()) fill();
});

export function start() {
  on("data language theme", build);
  on("weights", redraw);
  on("prediction", (k) => {
    chosenTile = k;
    mark();
  });
  on("epoch pass status model", refill);
}
