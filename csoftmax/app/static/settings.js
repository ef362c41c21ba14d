// What to train on and how: the data set, the kind of training, and its fields.
import {$, count, el, segments} from "./dom.js";
import {hush, post, say, send, tell} from "./api.js";
import {busy, emit, on, pictures, state} from "./state.js";
import {t} from "./text.js";
import {go} from "./transport.js";

const BATCH = 256;
const FEW = 2000; // with fewer rows, an epoch of such batches has too few steps
const BATCH_OF_FEW = 16;

// name, first value, least, most, whether it is a whole number; the rest is behind "More settings"
const FIELDS = {
  sgd: {
    first: [
      ["epochs", 10, 1, 1000, true],
      ["lr", 0.1, 0, 1000],
      ["batch_size", BATCH, 1, 1e6, true],
    ],
    more: [
      ["momentum", 0, 0, 0.999],
      ["nesterov", false],
      ["weight_decay", 0, 0, 100],
      ["seed", 0, 0, 2 ** 31, true],
      ["slices", 10, 1, 100, true],
      ["resume", false],
    ],
  },
  lbfgs: {
    first: [
      ["C", 0.1, 0, Infinity],
      ["tol", 1e-4, 0, 1],
    ],
    more: [
      ["l1_ratio", 0, 0, 1],
      ["max_iter", 1000, 1, 1e6, true],
    ],
  },
  sweep: {
    first: [
      ["C_from", 1e-4, 0, Infinity],
      ["C_to", 10, 0, Infinity],
      ["C_number", 11, 2, 100, true],
    ],
    more: [
      ["tol", 1e-3, 0, 1],
      ["l1_ratio", 0, 0, 1],
    ],
  },
};

let kind = "sgd";
const kept = {sgd: {}, lbfgs: {}, sweep: {}}; // what a person has typed, by kind

const plain = (x) => (typeof x === "number" && x > 0 && x < 1e-4 ? x.toExponential() : String(x));

const few = () => Boolean(state.data) && state.data.n_train < FEW;
const batch = () => (few() ? BATCH_OF_FEW : BATCH);

function field([name, first, least, most, whole]) {
  const id = `set-${name}`;
  const isBatch = name === "batch_size";
  const value = kept[kind][name] ?? (isBatch ? batch() : first);
  const hint = isBatch && few() ? t("field.batch_size.hint.few") : t(`field.${name}.hint`);
  const words = el(
    "span",
    {},
    el("b", {textContent: t(`field.${name}`)}),
    el("small", {id: `${id}-hint`, textContent: hint}),
  );
  const isSwitch = typeof first === "boolean";
  const input = isSwitch
    ? el("input", {type: "checkbox", id, checked: value})
    : el("input", {
        type: "number",
        id,
        value: plain(value),
        min: String(least),
        step: whole ? "1" : "any",
        max: most === Infinity ? null : String(most),
        inputMode: "decimal",
        required: true,
      });
  input.setAttribute("aria-describedby", `${id}-hint`);
  input.addEventListener("input", () => {
    kept[kind][name] = isSwitch ? input.checked : input.value;
    input.removeAttribute("aria-invalid");
    hush();
    summary();
  });
  return el("label", {className: isSwitch ? "field switch" : "field"}, words, input);
}

function build() {
  segments(
    $("#kinds"),
    "kind",
    ["sgd", "lbfgs", "sweep"].map((k) => [k, t(`kind.${k}`)]),
    kind,
    (chosen) => {
      kind = chosen;
      build();
      $(`#kind-${kind}`).focus();
    },
  );
  $("#kind-said").textContent = t(`kind.${kind}.hint`);
  $("#fields").replaceChildren(...FIELDS[kind].first.map(field));
  $("#more-fields .fields").replaceChildren(...FIELDS[kind].more.map(field));
  summary();
}

function read() {
  const out = {};
  let wrong = null;
  for (const [name, first, least, most, whole] of [...FIELDS[kind].first, ...FIELDS[kind].more]) {
    const input = $(`#set-${name}`);
    if (typeof first === "boolean") {
      out[name] = input.checked;
      continue;
    }
    const x = Number(input.value);
    const open = ["lr", "C", "C_from", "C_to", "tol"].includes(name);
    const good =
      input.value.trim() !== "" &&
      Number.isFinite(x) &&
      (open ? x > least : x >= least) &&
      x <= most &&
      (!whole || Number.isInteger(x));
    if (!good) {
      input.setAttribute("aria-invalid", "true");
      wrong ??= [input, name, least, most, whole, open];
    }
    out[name] = x;
  }
  return [out, wrong];
}

/** The body of POST /run, or null where a field is wrong (it is told, and gets the focus). */
export function settings() {
  const [out, wrong] = read();
  if (wrong) {
    const [input, name, least, most, whole, open] = wrong;
    $("#setup").open = true;
    location.hash = "#train";
    if (input.closest("#more-fields")) $("#more-fields").open = true;
    input.focus();
    say(t("field.wrong", t(`field.${name}`), least, most, whole, open), true);
    return null;
  }
  if (kind !== "sweep") return {kind, ...out};
  const {C_from: low, C_to: high, C_number: n, tol, l1_ratio} = out;
  if (low === 1e-6 && high === 1e5) return {kind, Cs: n, tol, l1_ratio}; // the values of the command line
  const Cs = Array.from({length: n}, (_, i) => Number((low * (high / low) ** (i / (n - 1))).toPrecision(4)));
  return {kind, Cs: [...new Set(Cs)].sort((a, b) => a - b), tol, l1_ratio};
}

/** One line of what is set, for a phone's width. */
function summary() {
  if (!state.data) return;
  const [out] = read();
  $("#setup-said").textContent = `${setName(state.data)} · ${t(`summary.${kind}`, out)}`;
}

// ---- the data

const NAMES = {"Fashion-MNIST": "fashion-mnist", "Fashion-MNIST, sample": "sample"};
let isUpload = false;

/** Which of the sets the data are. */
const setOf = (data) =>
  data.set ?? NAMES[data.name] ?? (data.sets.includes("start") && !isUpload ? "start" : "upload");

const setName = (data) => (["upload", "start"].includes(setOf(data)) ? data.name : t(`set.${setOf(data)}`));

function showData() {
  const data = state.data;
  const now = setOf(data);
  const sets = data.sets.includes(now) ? data.sets : [...data.sets, now];
  $("#sets").replaceChildren(
    ...sets.map((set) => {
      const input = el("input", {
        type: "radio",
        name: "set",
        value: set,
        id: `set-of-${set}`,
        checked: set === now,
        disabled: busy() || (set === "upload" && now !== "upload"),
      });
      input.addEventListener("change", () => choose(set));
      const name = set === now ? setName(data) : t(`set.${set}`);
      const hint = t(`set.${set}.hint`);
      return el(
        "label",
        {},
        input,
        el("span", {}, el("b", {textContent: name}), el("small", {textContent: hint})),
      );
    }),
  );
  $("#data-said").textContent = t(
    data.train_is_test ? "data.said.same" : "data.said",
    count(data.n_train),
    count(data.n_test),
    data.class_names.length,
    data.picture
      ? t("data.pixels", data.picture.height, data.picture.width)
      : t("data.features", count(data.n_features)),
  );
  $("#data-file").disabled = busy();
  document.body.dataset.kind = pictures() ? "pictures" : "table";
  summary();
}

async function take(data, uploaded = false) {
  if (data) {
    isUpload = uploaded;
    state.data = data;
    emit("data", data);
    say(t("data.taken", setName(data)));
  } else {
    showData();
  }
}

const choose = async (set) => take(await tell(() => post("/data", {set})));

async function upload(file) {
  if (!file) return;
  const headers = {"X-File-Name": encodeURIComponent(file.name), "X-Test-Share": $("#test-share").value};
  if (!(Number(headers["X-Test-Share"]) >= 0.01 && Number(headers["X-Test-Share"]) <= 0.99)) {
    $("#test-share").focus();
    say(t("field.wrong", t("data.share"), 0.01, 0.99, false, false), true);
    return;
  }
  const column = $("#label-column").value.trim();
  if (column) headers["X-Label-Column"] = encodeURIComponent(column);
  say(t("data.reading", file.name));
  await take(await tell(() => send("/data", file, headers)), true);
}

/** After a reload, the fields are as the run has them. */
function takeRun() {
  const run = state.run;
  if (!run?.settings || !FIELDS[run.kind]) return;
  kind = run.kind;
  const {Cs, ...rest} = run.settings;
  Object.assign(kept[kind], rest);
  if (Cs?.length > 1) Object.assign(kept.sweep, {C_from: Cs[0], C_to: Cs.at(-1), C_number: Cs.length});
  build();
}

let fitted = BATCH;

/** Other data may need another batch size, unless a person has chosen one. */
function fitBatch() {
  if (batch() === fitted) return;
  if (Number(kept.sgd.batch_size ?? fitted) === fitted) delete kept.sgd.batch_size;
  fitted = batch();
  build();
}

export function start() {
  build();
  let seen = null;
  on("run", () => {
    if (state.run && state.run !== seen && !busyTyping()) takeRun();
    seen = state.run;
  });
  on("data", fitBatch);
  on("data run status", () => {
    if (state.data) showData();
  });
  on("language", () => {
    build();
    if (state.data) showData();
  });
  $("#settings").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!busy()) go();
  });
  $("#data-file").addEventListener("change", (event) => {
    upload(event.target.files[0]);
    event.target.value = "";
  });
  const wide = matchMedia("(min-width: 760px)");
  const fold = () => {
    $("#setup").open = wide.matches;
  };
  wide.addEventListener("change", fold);
  fold();
}

const busyTyping = () => $("#settings").contains(document.activeElement);
