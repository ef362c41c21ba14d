// Take it along: the model, the history, the pictures, and the code that does the same.
import {$, el} from "./dom.js";
import {get, say, send, tell} from "./api.js";
import {busy, gently, on, pictures, state, trained} from "./state.js";
import {t} from "./text.js";

const FILES = ["model.safetensors", "history.csv", "curves.png", "confusion.png", "weights.png"];

function showDownloads() {
  if (!state.data) return;
  const files = FILES.filter((file) => file !== "weights.png" || pictures());
  const has = {
    "model.safetensors": trained(),
    "history.csv": Boolean(state.run),
    "curves.png": Boolean(state.run),
  };
  $("#downloads").replaceChildren(
    ...files.map((file) => {
      const ready = has[file] ?? trained();
      const words = el(
        "span",
        {},
        el("b", {textContent: file}),
        el("small", {textContent: t(`file.${file}`)}),
      );
      return el(
        "li",
        {},
        words,
        ready
          ? el("a", {
              className: "button",
              href: `/${file}`,
              download: file,
              textContent: t("download"),
              ariaLabel: `${t("download")}: ${file}`,
            })
          : el("span", {className: "soft small", textContent: t("download.later")}),
      );
    }),
  );
  $("#model-file").disabled = busy();
}

async function takeModel(file) {
  if (!file) return;
  const model = await tell(() => send("/model", file));
  if (!model) return;
  $("#model-said").textContent = t("model.taken", file.name);
  say(t("model.taken", file.name));
}

async function copy(text, button) {
  const copied =
    (await navigator.clipboard?.writeText(text).then(
      () => true,
      () => false,
    )) ?? false;
  if (!copied) {
    const area = el("textarea", {value: text});
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = t("copied");
  setTimeout(() => {
    button.textContent = t("copy");
  }, 2000);
}

async function showCode() {
  if (state.view !== "take" || !state.data) return;
  const lang = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
  const code = await get(`/code?lang=${lang}`).catch(() => null);
  if (!code) return;
  $("#code").replaceChildren(
    ...["python", "shell"].map((which) => {
      const button = el("button", {type: "button", textContent: t("copy"), ariaLabel: t(`copy.${which}`)});
      button.addEventListener("click", () => copy(code[which], button));
      return el(
        "section",
        {},
        el("div", {className: "heading"}, el("h4", {textContent: t(`code.${which}`)}), button),
        el(
          "pre",
          {tabIndex: 0, role: "region", ariaLabel: t(`code.${which}`), lang: "en"},
          el("code", {textContent: code[which]}),
        ),
      );
    }),
  );
}

export function start() {
  $("#model-file").addEventListener("change", (event) => {
    takeModel(event.target.files[0]);
    event.target.value = "";
  });
  const soon = gently(500, showCode);
  on("run status data model language", () => {
    showDownloads();
    soon();
  });
  on("view", () => {
    showDownloads();
    showCode();
  });
}
