// Elements, and numbers as people read them.
import {language} from "./text.js";

export const $ = (selector, root = document) => root.querySelector(selector);

/** An element: properties where it has them, attributes otherwise; null and false are left out. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Bytes of base64 text, as they are or as signed ones. */
export function bytes(text, Type = Uint8Array) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return new Type(out.buffer);
}

const MINUS = "\u2212";
const known = (x) => typeof x === "number" && Number.isFinite(x);

export const fixed = (x, digits = 3) => (known(x) ? x.toFixed(digits).replace("-", MINUS) : "–");
export const percent = (x, digits = 1) =>
  known(x) ? `${(100 * x).toFixed(digits)}${language() === "zh" ? "" : " "}%` : "–";
export const count = (n) => n.toLocaleString(language() === "zh" ? "zh-CN" : "en");

/** A whole power of ten, set as 10⁻⁴. */
const power = (exponent) =>
  `10${String(exponent).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)])}`;

/** Three digits, with a power of ten where it is very small or large. */
export function short(x) {
  if (!known(x)) return "–";
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
    const [digits, exponent] = x.toExponential(1).split("e");
    const ten = power(Number(exponent));
    return Number(digits) === 1 ? ten : `${digits.replace("-", MINUS)} × ${ten}`;
  }
  return String(Number(x.toPrecision(3))).replace("-", MINUS);
}

/** A group of radio buttons that look like a row of segments; `choose` gets the new value. */
export function segments(host, name, options, value, choose) {
  host.replaceChildren(
    ...options.map(([key, label, content]) => {
      const input = el("input", {
        type: "radio",
        name,
        value: key,
        checked: key === value,
        id: `${name}-${key}`,
      });
      input.addEventListener("change", () => choose(key));
      return el(
        "label",
        {title: content ? label : ""},
        input,
        content
          ? el("span", {}, content, el("span", {className: "hidden", textContent: label}))
          : el("span", {textContent: label}),
      );
    }),
  );
}
