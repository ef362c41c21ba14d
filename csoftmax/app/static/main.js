// The page: its views, language and theme; the other modules do the rest.
import {$, el} from "./dom.js";
import {listen, load, tell} from "./api.js";
import {emit, on, pictures, state} from "./state.js";
import {language, switchLanguage, t, translate} from "./text.js";
import * as calibration from "./calibration.js";
import * as curves from "./curves.js";
import * as draw from "./draw.js";
import * as gallery from "./gallery.js";
import * as look from "./look.js";
import * as picture from "./picture.js";
import * as settings from "./settings.js";
import * as take from "./take.js";
import * as transport from "./transport.js";
import * as weights from "./weights.js";

const VIEWS = ["train", "look", "draw", "take"];

function showView() {
  const wanted = location.hash.slice(1);
  let view = VIEWS.includes(wanted) ? wanted : "train";
  if (view === "draw" && state.data && !pictures()) view = "train";
  state.view = view;
  for (const section of document.querySelectorAll(".view")) section.hidden = section.dataset.view !== view;
  for (const link of document.querySelectorAll(".views a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // the drawing and the weights are shown in two views, and are one thing
  const slot = $(`#view-${view} [data-slot="try"]`);
  if (slot) slot.append($("#try"));
  $("#try").classList.toggle("full", view === "draw");
  if (view === "look") $("#view-look .lead").after($("#weights-card"));
  else $("#view-train .middle").append($("#weights-card"));
  document.title = `${t(`nav.${view}`)} · csoftmax`;
  emit("view", view);
}

function showKind() {
  $('.views a[href="#draw"]').hidden = !pictures();
  $("#try").hidden = !pictures();
  $(".side").hidden = !pictures();
  $("#view-train").classList.toggle("narrow", !pictures());
  if (state.view === "draw" && !pictures()) location.hash = "#train";
}

function showFoot() {
  $("#foot").textContent = t("foot", state.version ?? "");
}

function showSwitches() {
  $("#language").textContent = language() === "zh" ? "English" : "中文";
  $("#language").lang = language() === "zh" ? "en" : "zh-CN";
  $("#theme use").setAttribute(
    "href",
    document.documentElement.dataset.theme === "dark" ? "#i-sun" : "#i-moon",
  );
  document.title = `${t(`nav.${state.view}`)} · csoftmax`;
}

function switchTheme(theme, keep) {
  document.documentElement.dataset.theme = theme;
  if (keep) localStorage.setItem("csoftmax-theme", theme);
  showSwitches();
  emit("theme", theme);
}

function showConnection({lost, message}) {
  const banner = $("#banner");
  banner.hidden = !lost;
  document.body.classList.toggle("lost", lost);
  if (!lost) {
    banner.replaceChildren();
    return;
  }
  banner.replaceChildren(
    el("b", {textContent: t("gone.title")}),
    " ",
    message || t("gone"),
    " ",
    el("code", {textContent: "python -m csoftmax app"}),
  );
}

function start() {
  translate();
  showSwitches();
  $("#language").addEventListener("click", switchLanguage);
  $("#theme").addEventListener("click", () =>
    switchTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark", true),
  );
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    if (!localStorage.getItem("csoftmax-theme")) switchTheme(event.matches ? "dark" : "light", false);
  });
  $(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("#main").focus();
  });
  on("language", showSwitches);
  on("connection", showConnection);
  for (const module of [
    settings,
    transport,
    curves,
    weights,
    look,
    calibration,
    gallery,
    picture,
    draw,
    take,
  ])
    module.start();
  on("data", showKind);
  on("data language", showFoot);
  window.addEventListener("hashchange", showView);
  showView();
  tell(async () => {
    await load();
    listen();
    showView();
  });
}

start();
