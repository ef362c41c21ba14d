// Pictures on canvases: grey pixels, and signed numbers in a diverging map (orange, neutral, blue).
import {state} from "./state.js";
import {bytes} from "./dom.js";

// Orange and blue stay apart for every kind of colour vision; light or dark, zero is the paper.
const STOPS = {
  light: [
    [140, 62, 0],
    [238, 158, 72],
    [248, 248, 246],
    [104, 160, 222],
    [12, 70, 150],
  ],
  dark: [
    [255, 200, 130],
    [190, 98, 18],
    [30, 33, 38],
    [46, 104, 190],
    [156, 204, 255],
  ],
};

const WHOLE = 0.38; // the share of the largest weight that has the full colour; above it, it only darkens

let table = null;
let tableTheme = "";

/** Colours of -127 to 127, three bytes each, at 3 * (value + 128). */
export function diverging() {
  const theme = document.documentElement.dataset.theme;
  if (theme === tableTheme) return table;
  tableTheme = theme;
  table = new Uint8Array(3 * 256);
  const stops = STOPS[theme];
  for (let v = 0; v < 256; v++) {
    const part = Math.max(-1, (v - 128) / 127);
    const at =
      2 +
      Math.sign(part) *
        (Math.abs(part) < WHOLE ? Math.abs(part) / WHOLE : 1 + (Math.abs(part) - WHOLE) / (1 - WHOLE));
    const low = Math.min(3, Math.floor(at));
    for (let c = 0; c < 3; c++) {
      table[3 * v + c] = Math.round(stops[low][c] + (at - low) * (stops[low + 1][c] - stops[low][c]));
    }
  }
  return table;
}

function paint(canvas, height, width, colour) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  canvas.style.aspectRatio = `${width} / ${height}`;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const out = image.data;
  for (let i = 0; i < height * width; i++) {
    colour(out, 4 * i, i);
    out[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** Grey pixels (base64 or bytes) on a canvas. */
export function paintGrey(canvas, pixels, {height, width} = state.data.picture) {
  const grey = typeof pixels === "string" ? bytes(pixels) : pixels;
  paint(canvas, height, width, (out, at, i) => {
    out[at] = out[at + 1] = out[at + 2] = grey[i];
  });
}

/** Signed bytes, from `from` on, in the diverging map. */
export function paintSigned(canvas, values, height, width, from = 0) {
  const colours = diverging();
  paint(canvas, height, width, (out, at, i) => {
    const c = 3 * (values[from + i] + 128);
    out[at] = colours[c];
    out[at + 1] = colours[c + 1];
    out[at + 2] = colours[c + 2];
  });
}

/** Signed bytes over the faint picture that they are about: strong values hide it. */
export function paintOver(canvas, pixels, values, {height, width} = state.data.picture) {
  const colours = diverging();
  const isDark = document.documentElement.dataset.theme === "dark";
  paint(canvas, height, width, (out, at, i) => {
    const c = 3 * (values[i] + 128);
    const part = Math.min(1, Math.abs(values[i]) / 42);
    const grey = isDark ? 30 + 0.3 * pixels[i] : 248 - 0.24 * pixels[i];
    for (let k = 0; k < 3; k++) out[at + k] = part * colours[c + k] + (1 - part) * grey;
  });
}

/** The key of the diverging map: a small bar from orange to blue. */
export function paintKey(canvas) {
  const values = new Int8Array(101);
  for (let i = 0; i <= 100; i++) values[i] = Math.round(2.54 * i - 127);
  paintSigned(canvas, values, 1, 101);
}
