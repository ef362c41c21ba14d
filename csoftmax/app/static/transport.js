// The bar that is always in sight: one main button, step, stop, reset, speed, and how it goes.
import {$, el, fixed, icon, percent, short} from "./dom.js";
import {get, post, tell} from "./api.js";
import {bestPoint, busy, on, perFrame, state, status, trained} from "./state.js";
import {refusal, t} from "./text.js";
import {settings} from "./settings.js";

const SLOWEST = 10; // seconds per update that the server takes
// seconds per update, from slow to as fast as it goes
const PACES = [1, 0.5, 0.2, 0.1, 0.05, 0.02, 0];

export const pace = () => PACES[Number($("#pace").value)];

const control = (what, more = {}) => tell(() => post("/control", {do: what, ...more}));

async function begin(more = {}, goesOn = false) {
  const chosen = settings();
  if (chosen === null) return null;
  // a step never throws away what has been learnt
  if (goesOn && chosen.kind === "sgd" && trained()) chosen.resume = true;
  // a sweep has too many updates to wait at each of them
  return tell(() => post("/run", {...chosen, pace: chosen.kind === "sweep" ? 0 : pace(), ...more}));
}

const ACTS = {
  idle: ["start", "play"],
  done: ["again", "play"],
  stopped: ["again", "play"],
  failed: ["again", "play"],
  running: ["pause", "pause"],
  paused: ["resume", "play"],
};

export function go() {
  const now = status();
  if (now === "running") return control("pause");
  if (now === "paused") return control("resume");
  return begin();
}

async function step() {
  const wanted = pace();
  if (busy()) {
    control("step");
  } else if ((await begin({pace: SLOWEST}, true)) !== null) {
    // the first update is at once; before the next, it pauses
    await control("step");
    control("pace", {pace: wanted});
  }
}

function showButtons() {
  const now = status();
  document.body.dataset.status = now;
  const [text, sign] = ACTS[now];
  $("#go").disabled = !state.data;
  $("#go").replaceChildren(icon(sign), el("span", {textContent: t(text)}));
  $("#step").disabled = now === "running" || (state.run?.kind === "sweep" && busy());
  $("#stop").disabled = !busy();
  $("#reset").disabled = busy() ? false : !state.run && !state.model?.trained;
}

/** How far passes have come: in factors of ten, from the first estimate to the tolerance. */
function towards(run) {
  const shares = run.passes.filter((p) => p[2] > 0).map((p) => Math.log10(p[2] / p[1]));
  if (shares.length < 2) return 0;
  const goal = Math.log10(run.settings.tol);
  return Math.max(0, Math.min(1, (shares[0] - Math.min(...shares)) / (shares[0] - goal)));
}

function showNumbers() {
  const run = state.run;
  const list = [];
  let share = 0;
  if (run?.kind === "sgd") {
    const slice = run.slices.at(-1);
    const epoch = run.epochs.at(-1);
    share = (slice?.[0] ?? 0) / run.x_end;
    list.push(
      ["number.epoch", `${fixed(slice?.[0] ?? 0, Number.isInteger(slice?.[0] ?? 0) ? 0 : 1)} / ${run.x_end}`],
      ["number.loss", fixed(slice?.[1])],
      ["number.train", percent(slice?.[2])],
      ["number.test", percent(epoch?.[4])],
    );
  } else if (run?.kind === "lbfgs") {
    const pass = run.passes.at(-1);
    share = run.status === "done" ? 1 : towards(run);
    list.push(
      ["number.pass", String(pass?.[0] ?? 0)],
      ["number.objective", fixed(pass?.[1], 5)],
      ["number.estimate", short(pass?.[2])],
    );
    if (run.test !== undefined) list.push(["number.test", percent(run.test)]);
  } else if (run?.kind === "sweep") {
    const all = run.settings?.Cs?.length ?? run.x_end;
    share = run.sweep.length / all;
    list.push(
      ["number.C", `${run.sweep.length} / ${all}`],
      ["number.best", short(bestPoint(run)?.[0])],
      ["number.test", percent(run.test)], // of the model that is kept: each point was one of its own
    );
  }
  $("#numbers").replaceChildren(
    ...list.map(([key, value]) =>
      el("div", {}, el("dt", {textContent: t(key)}), el("dd", {textContent: value})),
    ),
  );
  $("#progress div").style.width = `${100 * Math.min(1, share)}%`;
  $("#progress").setAttribute("aria-valuenow", String(Math.round(100 * share)));
}

/** Passes tell nothing of the test set, nor does a sweep of its last model: ask once they have ended. */
async function askTest() {
  const run = state.run;
  if (!run || run.kind === "sgd" || busy() || run.test !== undefined) return;
  const answer = await get("/confusion").catch(() => null);
  if (answer && run === state.run) {
    run.test = answer.accuracy;
    showNumbers();
  }
}

function lasted(seconds) {
  if (seconds < 0.995) return t("status.done.ms", Math.max(1, Math.round(1000 * seconds)));
  return t("status.done.in", fixed(seconds, seconds < 10 ? 1 : 0));
}

function showStatus() {
  const run = state.run;
  const now = status();
  let said = t(`status.${now}`);
  if (now === "done" && run.seconds) said = lasted(run.seconds);
  if (now === "idle" && state.model?.trained) said = t("status.loaded");
  $("#status-said").textContent = said;
  $("#run-error").hidden = now !== "failed";
  $("#run-error").textContent = now === "failed" ? `${t("status.failed")}: ${refusal(run)}` : "";
}

let before = null;

/** Tell a screen reader what has changed, once. */
function announce() {
  const now = status();
  if (before !== null && before !== now) {
    const last = state.run?.epochs.at(-1);
    $("#said").textContent = now === "done" && last ? t("said.done", percent(last[4])) : t(`status.${now}`);
  }
  before = now;
}

function showPace() {
  const seconds = pace();
  const said =
    seconds === 0 ? t("pace.full") : seconds >= 1 ? t("pace.slow") : t("pace", Math.round(1 / seconds));
  $("#pace-said").textContent = said;
  $("#pace").setAttribute("aria-valuetext", said);
}

function takePace() {
  if (!busy() || state.run.kind === "sweep" || state.run.pace === SLOWEST) return;
  const at = PACES.findIndex((seconds) => seconds <= state.run.pace + 1e-9);
  if (at >= 0 && document.activeElement !== $("#pace")) $("#pace").value = String(at);
  showPace();
}

export function start() {
  $("#go").addEventListener("click", go);
  $("#step").addEventListener("click", step);
  $("#stop").addEventListener("click", () => control("stop"));
  $("#reset").addEventListener("click", () => control("reset"));
  $("#pace").addEventListener("input", () => {
    showPace();
    if (busy()) control("pace", {pace: pace()});
  });
  const all = () => {
    showButtons();
    showStatus();
    showNumbers();
    takePace();
    announce();
    askTest();
  };
  on("run status data model", all);
  on("language", () => {
    all();
    showPace();
  });
  on("slice epoch pass point", perFrame(showNumbers));
  showPace();
}
