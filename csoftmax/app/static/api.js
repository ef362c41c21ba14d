// All that goes to the server and comes from it.
import {emit, state} from "./state.js";
import {refusal, t} from "./text.js";
import {$} from "./dom.js";

/** What the server refused, with its status and its sentence. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    checkConnection();
    throw new Refusal(0, t("error.gone"));
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) {
    const sentence = answer?.error ? refusal(answer) : t("error.status", response.status);
    throw new Refusal(response.status, sentence);
  }
  return answer;
}

export const get = (path) => ask(path, {cache: "no-store"});
export const post = (path, body) =>
  ask(path, {method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json"}});
export const send = (path, file, headers = {}) =>
  ask(path, {method: "POST", body: file, headers: {"Content-Type": "application/octet-stream", ...headers}});

let hiding = 0;

$("#toast").addEventListener("click", () => {
  $("#toast").className = "toast";
});

/** Show a sentence for a while; an error is shown longer, and read out at once. */
export function say(sentence, bad = false) {
  const toast = $("#toast");
  toast.setAttribute("role", bad ? "alert" : "status");
  toast.className = bad ? "toast bad shown" : sentence ? "toast shown" : "toast";
  toast.textContent = sentence;
  clearTimeout(hiding);
  hiding = setTimeout(
    () => {
      toast.className = "toast";
      toast.textContent = "";
    },
    bad ? 9000 : 3500,
  );
}

/** Take an error away: what it was about has been mended. */
export function hush() {
  if ($("#toast").classList.contains("bad")) say("");
}

/** Run what a person asked for; a refusal is told to them. Returns its value, or null. */
export async function tell(work) {
  try {
    const value = await work();
    hush();
    return value;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const lead = t(`refused.${error.status}`);
    say(lead.startsWith("refused.") ? error.message : lead + error.message, true);
    return null;
  }
}

// ---- the stream of events

let source = null;
let retry = 0;

export function listen() {
  clearTimeout(retry);
  source?.close();
  source = new EventSource(`/events?after=${state.event}`);
  source.onopen = () => connected();
  source.onerror = () => checkConnection();
  for (const name of [
    "run",
    "slice",
    "epoch",
    "pass",
    "point",
    "best",
    "status",
    "weights",
    "data",
    "model",
    "state",
    "bye",
  ]) {
    source.addEventListener(name, (event) => {
      if (event.lastEventId && name !== "weights") state.event = Number(event.lastEventId);
      hear(name, JSON.parse(event.data));
    });
  }
}

const isNew = (list, x) => list.length === 0 || x > list[list.length - 1][0];

function hear(name, d) {
  const run = state.run;
  if (name === "run") {
    state.run = d;
  } else if (name === "slice") {
    if (!run || !isNew(run.slices, d.x)) return;
    run.slices.push([d.x, d.loss, d.accuracy]);
  } else if (name === "epoch") {
    if (!run || !isNew(run.epochs, d.epoch)) return;
    run.epochs.push([d.epoch, d.train_loss, d.train_accuracy, d.test_loss, d.test_accuracy]);
  } else if (name === "pass") {
    if (!run || !isNew(run.passes, d.pass)) return;
    run.passes.push([d.pass, d.objective, d.estimate, d.loss]);
  } else if (name === "point") {
    if (!run || run.sweep.some((point) => point[0] === d.C)) return;
    run.sweep.push(Object.values(d));
    run.sweep.sort((a, b) => a[0] - b[0]);
  } else if (name === "status" || name === "best") {
    if (run) Object.assign(run, d);
  } else if (name === "weights") {
    state.weights = d;
  } else if (name === "data") {
    state.data = d;
  } else if (name === "model") {
    state.model = d;
  } else if (name === "state") {
    load();
    return;
  } else if (name === "bye") {
    checkConnection();
    return;
  }
  emit(name, d);
}

/** Fetch everything anew, and tell all modules. */
export async function load() {
  const all = await get("/state");
  state.run = all.run;
  state.data = all.data;
  state.model = all.model;
  state.event = all.event;
  state.version = all.version;
  emit("data", state.data);
  emit("model", state.model);
  emit("run", state.run);
}

// ---- is the program still there

function connected() {
  if (!lost) return;
  lost = false;
  emit("connection", {lost});
  tell(load);
}

let lost = false;
let checking = false;

async function checkConnection() {
  if (checking) return;
  checking = true;
  let message = null;
  try {
    const response = await fetch("/state", {cache: "no-store"});
    // 403: it has been started anew, with another token
    if (response.status === 403) message = "";
    else if (!response.ok) message = (await response.json().catch(() => ({}))).error ?? "";
  } catch {
    message = "";
  }
  checking = false;
  if (message !== null) {
    lost = true;
    emit("connection", {lost, message});
    clearTimeout(retry);
    retry = setTimeout(checkConnection, 1500);
  } else if (source?.readyState === EventSource.CLOSED || lost) {
    listen();
  }
}
