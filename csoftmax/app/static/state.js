// What the page knows, in one place; modules listen to what has changed.
export const state = {
  data: null, // the data set in use
  model: null, // the model's shape and whether it has been trained
  run: null, // the last run, with its curves
  weights: null, // the newest weights as pictures
  event: 0, // the newest event's number
  view: "train",
};

const listeners = new Map();

/** Call `hear(detail, name)` whenever one of the named things (one string, spaces) has changed. */
export function on(names, hear) {
  for (const name of names.split(" ")) {
    if (!listeners.has(name)) listeners.set(name, []);
    listeners.get(name).push(hear);
  }
}

export function emit(name, detail) {
  for (const hear of listeners.get(name) ?? []) hear(detail, name);
}

/** idle, running, paused, done, stopped or failed. */
export const status = () => state.run?.status ?? "idle";
export const busy = () => status() === "running" || status() === "paused";
export const pictures = () => Boolean(state.data?.picture);
/** Whether the model has learnt anything, be it a little of the present run. */
export const trained = () =>
  Boolean(
    state.model?.trained || state.run?.slices.length || state.run?.passes.length || state.run?.sweep.length,
  );

/** The point of a sweep that the held-out part chooses, as the server does: the smallest of equal ones. */
export const bestPoint = (run) => run.sweep.reduce((a, b) => (a && a[6] >= b[6] ? a : b), null);

/** Call `work` at most once every `wait` ms: at once, and once more after the last call. */
export function gently(wait, work) {
  let timer = 0;
  let last = -Infinity;
  return () => {
    if (timer) return;
    const left = Math.max(0, last + wait - performance.now());
    timer = setTimeout(() => {
      timer = 0;
      last = performance.now();
      work();
    }, left);
  };
}

/** Call `work` before the next frame, however often this is called until then. */
export function perFrame(work) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      work();
    });
  };
}
