// Draw or upload: what is on the paper goes to the model, and its answer is shown beside it.
import {$, bytes, el, percent} from "./dom.js";
import {get, Refusal, send, tell} from "./api.js";
import {paintGrey} from "./pictures.js";
import {emit, gently, on, pictures, state, status, trained} from "./state.js";
import {className, t} from "./text.js";
import {bars} from "./bars.js";
import {why} from "./why.js";
import * as paper from "./paper.js";

const LARGE = 4 << 20; // bytes
const ENOUGH = 1024; // pixels

let source = null; // null (empty paper), {drawing}, {file}, or {row, set, of}
let answer = null;
let asking = false;
let again = false;
let problem = null;

async function ask() {
  if (!source || !pictures()) return;
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  const mine = source;
  try {
    const got = await (mine.set
      ? get(`/why?set=${mine.set}&row=${mine.row}`)
      : send("/predict", mine.file ?? (await paper.png())));
    if (mine === source) {
      answer = got;
      problem = null;
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (mine === source) {
      answer = null;
      problem = error.message;
    }
  }
  asking = false;
  show();
  if (again) {
    again = false;
    soon();
  }
}

const soon = gently(90, ask);

function show() {
  if (!state.data || !pictures()) return;
  const names = state.data.class_names;
  $("#paper-hint").hidden = source !== null;
  const isBlank = Boolean(source) && answer?.note === "empty"; // a guess about nothing helps nobody
  const found = source && !isBlank ? answer : null;
  const first = found ? found.probabilities.indexOf(Math.max(...found.probabilities)) : -1;
  const verdict = $("#verdict");
  verdict.classList.toggle("waits", !found);
  if (found) {
    verdict.replaceChildren(
      el("b", {textContent: className(names[first])}),
      ` ${percent(found.probabilities[first])}`,
    );
    if (found.label !== null && found.label !== undefined) {
      verdict.append(
        el("span", {
          className: "truth",
          textContent: t(
            found.label === first ? "picture.right" : "picture.wrong",
            className(names[found.label]),
          ),
        }),
      );
    }
    paintGrey($("#sees"), found.pixels);
  } else {
    verdict.textContent = problem ?? t(isBlank ? "note.empty" : "try.empty");
    const {height, width} = state.data.picture;
    paintGrey($("#sees"), new Uint8Array(height * width));
  }
  $("#try .to-why").hidden = !found;
  document.body.dataset.predicted = first < 0 ? "" : names[first];
  emit("prediction", first);
  bars($("#bars"), found ? found.probabilities : null, found?.label ?? null);
  const note = !found
    ? null
    : found.note
      ? t(`note.${found.note}`)
      : found.inverted
        ? t("note.inverted")
        : !trained() && status() === "idle"
          ? t("note.untrained")
          : null;
  $("#note").hidden = note === null;
  $("#note").textContent = note ?? "";
  showWhy(found);
}

function showWhy(found) {
  if (state.view !== "draw") return;
  if (found) why($("#why-body"), found);
  else $("#why-body").replaceChildren(el("p", {className: "empty", textContent: t("why.empty")}));
}

/** A photo of many megabytes, made small here: the program takes 4 MB, and needs fewer pixels still. */
async function shrunk(file) {
  if (file.size <= LARGE) return file;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return file; // the program says what is wrong with it
  const by = Math.min(1, ENOUGH / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((n) => Math.max(1, Math.round(by * n)));
  const canvas = el("canvas", {width, height});
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

async function takeFile(given) {
  if (!given || !pictures()) return;
  const file = await shrunk(given);
  const got = await tell(() => send("/predict", file));
  if (!got) return;
  source = {file};
  answer = got;
  problem = null;
  show();
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap && source?.file === file) paper.paste(bitmap, source, {ground: got.inverted ? "#fff" : "#000"});
}

// a row's number means another picture in other data: there, what is on the paper is a drawing
const dataNow = () => `${state.data.name} ${state.data.n_test}`;
const known = (one) => (one.set && one.of !== dataNow() ? {drawing: true} : one);

/** Put a picture of the test set on the paper. */
async function some() {
  const row = Math.floor(Math.random() * state.data.n_test);
  const got = await tell(() => get(`/why?set=test&row=${row}`));
  if (!got) return;
  source = {set: "test", row, of: dataNow()};
  answer = got;
  problem = null;
  const canvas = el("canvas", {width: 1, height: 1});
  paintGrey(canvas, bytes(got.pixels));
  paper.paste(canvas, source, {smooth: false});
  show();
}

function waysIn() {
  $("#picture-file").addEventListener("change", (event) => {
    takeFile(event.target.files[0]);
    event.target.value = "";
  });
  $("#some").addEventListener("click", some);
  document.addEventListener("paste", (event) => {
    const item = [...(event.clipboardData?.items ?? [])].find(
      (one) => one.kind === "file" && one.type.startsWith("image/"),
    );
    if (item) {
      event.preventDefault();
      takeFile(item.getAsFile());
    }
  });
  const host = $("#try");
  for (const name of ["dragenter", "dragover"]) {
    host.addEventListener(name, (event) => {
      event.preventDefault();
      host.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) host.addEventListener(name, () => host.classList.remove("over"));
  // a file dropped beside it must not replace the page, and is meant for the paper where that is in sight
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (["train", "draw"].includes(state.view)) takeFile(event.dataTransfer.files[0]);
  });
}

export function start() {
  paper.start(({empty, picture}) => {
    source = empty ? null : known(picture ?? {drawing: true});
    if (empty) {
      answer = null;
      problem = null;
      show();
    } else {
      $("#paper-hint").hidden = true;
      soon();
    }
  });
  waysIn();
  on("slice pass epoch status model", soon);
  on("data", () => {
    if (source) source = known(source);
    answer = null;
    show();
    soon();
  });
  on("view language theme model status", show);
}
