// The paper to draw on: brush, fill, eraser, mirror, undo; mouse, touch, pen and keyboard.
import {$, icon, segments} from "./dom.js";
import {on} from "./state.js";
import {t} from "./text.js";

const STEP = 10; // of the keyboard's cursor, in the canvas's pixels
const MOST_UNDO = 40;

const paper = $("#paper");
const ink = paper.getContext("2d", {willReadFrequently: true});
const cursor = $("#cursor").getContext("2d");
let tool = "brush";
let mirror = false;
let last = null; // where the pointer was, while it is down
let at = {x: 140, y: 140};
let keyDraws = false; // space is held
const undos = [];
let shows = null; // whose picture is on the paper; null once it is drawn on
let changed = () => {};

const size = () => Number($("#size").value);
const shade = () => (tool === "erase" ? 0 : Number($("#shade").value));

/** The drawing as a PNG. */
export const png = () => new Promise((resolve) => paper.toBlob(resolve, "image/png"));

function remember() {
  undos.push([ink.getImageData(0, 0, paper.width, paper.height), shows]);
  if (undos.length > MOST_UNDO) undos.shift();
  shows = null;
}

function line(from, to) {
  const grey = shade();
  ink.strokeStyle = `rgb(${grey} ${grey} ${grey})`;
  ink.lineWidth = size();
  ink.lineCap = ink.lineJoin = "round";
  for (const flip of mirror ? [false, true] : [false]) {
    const x = (p) => (flip ? paper.width - p.x : p.x);
    ink.beginPath();
    ink.moveTo(x(from), from.y);
    ink.lineTo(x(to) + (from === to ? 0.01 : 0), to.y);
    ink.stroke();
  }
}

/** Fill what is enclosed around a point, and the soft edge of its outline. */
function fill({x, y}) {
  const {width, height} = paper;
  const image = ink.getImageData(0, 0, width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const level = (i) => image.data[4 * i];
  const grey = shade();
  const value = (0xff000000 | (grey << 16) | (grey << 8) | grey) >>> 0;
  const seen = new Uint8Array(width * height);
  const first = Math.floor(y) * width + Math.floor(x);
  const of = level(first);
  const todo = [first];
  while (todo.length) {
    const i = todo.pop();
    if (i < 0 || i >= seen.length || seen[i] || Math.abs(level(i) - of) > 48) continue;
    seen[i] = 1;
    const column = i % width;
    if (column > 0) todo.push(i - 1);
    if (column < width - 1) todo.push(i + 1);
    todo.push(i - width, i + width);
  }
  const between = (i) => level(i) > Math.min(of, grey) && level(i) < Math.max(of, grey);
  const edge = [];
  for (let i = 0; i < seen.length; i++) {
    if (!seen[i]) continue;
    for (const by of [-2 * width, -width, -2, -1, 1, 2, width, 2 * width]) {
      if (i + by >= 0 && i + by < seen.length && !seen[i + by] && between(i + by)) edge.push(i + by);
    }
  }
  for (const i of edge) pixels[i] = value;
  seen.forEach((is, i) => {
    if (is) pixels[i] = value;
  });
  ink.putImageData(image, 0, 0);
}

/** Begin at a point with the tool in hand. */
function put(point) {
  remember();
  if (tool === "fill") {
    fill(point);
    if (mirror) fill({x: paper.width - 1 - point.x, y: point.y});
  } else {
    line(point, point);
  }
  changed();
}

export function clear() {
  remember();
  ink.fillStyle = "#000";
  ink.fillRect(0, 0, paper.width, paper.height);
  changed({empty: true});
}

export function undo() {
  if (!undos.length) return;
  const [image, was] = undos.pop();
  ink.putImageData(image, 0, 0);
  shows = was;
  changed({empty: was === null && isEmpty(), picture: was});
}

function isEmpty() {
  const {data} = ink.getImageData(0, 0, paper.width, paper.height);
  for (let i = 0; i < data.length; i += 4) if (data[i] > 8) return false;
  return true;
}

/** Show a picture (canvas or bitmap) on the paper, whole, to look at or to draw on; undo names `whose`. */
export function paste(picture, whose, {smooth = true, ground = "#000"} = {}) {
  remember();
  shows = whose;
  ink.fillStyle = ground;
  ink.fillRect(0, 0, paper.width, paper.height);
  const by = Math.min(paper.width / picture.width, paper.height / picture.height);
  const w = picture.width * by;
  const h = picture.height * by;
  ink.imageSmoothingEnabled = smooth;
  ink.drawImage(picture, (paper.width - w) / 2, (paper.height - h) / 2, w, h);
}

function where(event) {
  const box = paper.getBoundingClientRect();
  const clamp = (v, most) => Math.max(0, Math.min(most - 1, v));
  return {
    x: clamp(((event.clientX - box.left) * paper.width) / box.width, paper.width),
    y: clamp(((event.clientY - box.top) * paper.height) / box.height, paper.height),
  };
}

function ring(point) {
  cursor.clearRect(0, 0, paper.width, paper.height);
  if (!point) return;
  for (const [colour, width] of [
    ["#000", 3],
    ["#fff", 1.5],
  ]) {
    cursor.strokeStyle = colour;
    cursor.lineWidth = width;
    cursor.beginPath();
    cursor.arc(point.x, point.y, tool === "fill" ? 4 : Math.max(3, size() / 2), 0, 2 * Math.PI);
    cursor.stroke();
  }
}

function pointers() {
  paper.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    paper.setPointerCapture(event.pointerId);
    const point = where(event);
    put(point);
    last = tool === "fill" ? null : point;
  });
  paper.addEventListener("pointermove", (event) => {
    ring(where(event));
    if (!last) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const one of all.length ? all : [event]) {
      const point = where(one);
      line(last, point);
      last = point;
    }
    changed();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    paper.addEventListener(name, () => {
      if (last) {
        last = null;
        changed();
      }
    });
  }
  paper.addEventListener("pointerleave", () =>
    ring(document.activeElement === paper && keyDraws ? at : null),
  );
}

function keys() {
  const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  paper.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (move) {
      event.preventDefault();
      const from = {...at};
      const by = event.shiftKey ? 1 : STEP;
      at = {
        x: Math.max(0, Math.min(paper.width - 1, at.x + by * move[0])),
        y: Math.max(0, Math.min(paper.height - 1, at.y + by * move[1])),
      };
      if (keyDraws && tool !== "fill") {
        line(from, at);
        changed();
      }
    } else if (event.key === " ") {
      event.preventDefault();
      if (!keyDraws) put(at);
      keyDraws = true;
    } else if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      clear();
    } else if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      event.preventDefault();
      undo();
    } else if (!event.ctrlKey && !event.metaKey && {b: "brush", f: "fill", e: "erase"}[event.key]) {
      tool = {b: "brush", f: "fill", e: "erase"}[event.key];
      build();
    } else {
      return;
    }
    ring(at);
  });
  paper.addEventListener("keyup", (event) => {
    if (event.key === " ") keyDraws = false;
  });
  paper.addEventListener("focus", () => {
    if (paper.matches(":focus-visible")) ring(at);
  });
  paper.addEventListener("blur", () => {
    keyDraws = false;
    ring(null);
  });
}

function build() {
  segments(
    $("#tools"),
    "tool",
    ["brush", "fill", "erase"].map((key) => [key, t(`tool.${key}`), icon(key)]),
    tool,
    (key) => {
      tool = key;
    },
  );
  paper.setAttribute("aria-label", t("paper.label"));
}

/** `hear({empty, picture})` is called whenever the drawing has changed, or undo brought a picture back. */
export function start(hear) {
  changed = (what = {empty: false}) => hear(what);
  ink.fillStyle = "#000";
  ink.fillRect(0, 0, paper.width, paper.height);
  build();
  pointers();
  keys();
  $("#mirror").addEventListener("click", () => {
    mirror = !mirror;
    $("#mirror").setAttribute("aria-pressed", String(mirror));
  });
  $("#undo").addEventListener("click", undo);
  $("#clear").addEventListener("click", clear);
  on("language", build);
}
