// The page's words in the reader's language. Texts: texts/en.js and texts/zh.js, by the same keys.
import en from "./texts/en.js";
import zh from "./texts/zh.js";
import {emit} from "./state.js";

const TEXTS = {en, zh};
let now = localStorage.getItem("csoftmax-language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

export const language = () => now;

/** The text of a key; a text that is a function gets the values. */
export function t(key, ...values) {
  const text = TEXTS[now][key] ?? key;
  return typeof text === "function" ? text(...values) : text;
}

/** The sentence of a refusal: the program's own where the language has none for its code. */
export function refusal({error, code, values}) {
  const text = TEXTS[now].refusals[code];
  return typeof text === "function" ? text(...values) : (text ?? error);
}

/** A class's name: those of Fashion-MNIST are translated. */
export const className = (name) => TEXTS[now].classes[name] ?? name;

/** Put the language's texts into all elements that name a key. */
export function translate(root = document) {
  document.documentElement.lang = now === "zh" ? "zh-CN" : "en";
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-attr]")) {
    for (const pair of node.dataset.tAttr.split(";")) {
      const [attribute, key] = pair.split(":");
      node.setAttribute(attribute, t(key));
    }
  }
}

export function switchLanguage() {
  now = now === "zh" ? "en" : "zh";
  localStorage.setItem("csoftmax-language", now);
  translate();
  emit("language", now);
}
