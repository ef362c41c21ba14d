"""A run as a thread: training that is watched, paused, made to step and stopped.

What runs is the public API: `csoftmax.train_slices`, and `csoftmax.solver.minimize` with a callback
that waits where the run is paused.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import csoftmax as cs
from csoftmax.app.data import Data
from csoftmax.app.settings import sgd_of

Show = Callable[[cs.SoftmaxRegression, bool], None]  # the model; at once, or when it is time


@dataclass
class Training:
    """A run as the page sees it: its settings, where it is, and all its figures so far."""

    kind: str
    settings: dict[str, Any]
    pace: float
    x_end: int
    status: str = "running"
    error: str | None = None
    seconds: float = 0.0
    slices: list[list[float]] = field(default_factory=list)
    epochs: list[list[float]] = field(default_factory=list)
    passes: list[list[float]] = field(default_factory=list)
    sweep: list[list[float]] = field(default_factory=list)
    best_C: float | None = None  # of a sweep that is done

    def add(self, event: str, row: dict[str, Any]) -> None:
        """Keep what an event says: a line of figures, or where the run is."""
        kept = {"slice": "slices", "epoch": "epochs", "pass": "passes", "point": "sweep"}
        if event in kept:
            getattr(self, kept[event]).append([*row.values()])
        else:
            vars(self).update(row)

    def where(self) -> dict[str, Any]:
        """Return where the run is, as an event tells it."""
        names = ("status", "error", "seconds", "pace")
        return {name: getattr(self, name) for name in names}

    @property
    def is_going_on(self) -> bool:
        return self.status in ("running", "paused")

    def described(self) -> dict[str, Any]:
        """Return what the page is told of the run."""
        return asdict(self)


class Control:
    """What holds a run back between two slices: its pace, a pause, a stop.

    It tells where the run is while it holds its lock: who calls it must not hold what that needs.
    """

    def __init__(self, pace: float, tell: Callable[[str], None]) -> None:
        self.pace = pace
        self.waited = 0.0  # seconds
        self._tell = tell
        self._changed = threading.Condition()
        self._paused = self._stopped = False
        self._steps = 0
        self._began = time.perf_counter()  # when the present slice began

    @property
    def is_paused(self) -> bool:
        return self._paused

    def pause(self) -> None:
        self._set(_paused=True)

    def resume(self) -> None:
        self._set(_paused=False, _steps=0)

    def step(self) -> None:
        """Let the run go on for one slice, and then wait."""
        with self._changed:
            self._steps += 1 if self._paused else 0
            self._paused = True
            self._changed.notify_all()

    def stop(self) -> None:
        self._set(_stopped=True)

    def set_pace(self, pace: float) -> None:
        self._set(pace=pace)

    def _set(self, **values: Any) -> None:
        with self._changed:
            vars(self).update(values)
            self._changed.notify_all()

    def go_on(self) -> bool:
        """Wait as long as the page wants; False if the run is to end."""
        came = time.perf_counter()
        is_waiting = False
        with self._changed:
            while not self._stopped:
                if self._paused and not self._steps:
                    if not is_waiting:
                        self._tell("paused")
                    is_waiting = True
                    self._changed.wait()
                    continue
                left = self._began + self.pace - time.perf_counter()
                if self._steps or left <= 0:
                    break
                self._changed.wait(left)
            self._steps = max(0, self._steps - 1)
            goes_on = not self._stopped
            if is_waiting and goes_on and not self._paused:
                self._tell("running")
        now, due = time.perf_counter(), self._began + self.pace
        self._began = due if now - due < self.pace else now  # a late one does not delay the next
        self.waited += now - came
        return goes_on


Tell = Callable[[Training, str, Any], None]


class Job(threading.Thread):
    """One run. It alone changes its model; others see what it shows them."""

    def __init__(
        self, run: Training, data: Data, model: cs.SoftmaxRegression, tell: Tell, show: Show
    ) -> None:
        super().__init__(name="csoftmax run", daemon=True)
        self.run_, self.data, self.model = run, data, model
        self.show, self._tell = show, tell
        self.control = Control(run.pace, self._tell_status)
        self.started = time.perf_counter()
        self.history = cs.History()

    def run(self) -> None:
        from csoftmax.app.passes import run_passes, run_sweep

        ways: dict[str, Callable[[Job], bool]] = {
            "sgd": run_slices, "lbfgs": run_passes, "sweep": run_sweep,
        }  # fmt: skip
        self.started = time.perf_counter()
        try:
            whole = ways[self.run_.kind](self)
            self._end("done" if whole else "stopped")
        except (ValueError, TypeError, MemoryError) as error:
            self._end("failed", str(error) or "there is not enough memory")
        except BaseException as error:
            traceback.print_exc()
            self._end("failed", f"{type(error).__name__}: {error}; the terminal shows more")

    def tell(self, event: str, row: dict[str, Any]) -> None:
        """Tell the session what the run came to."""
        self._tell(self.run_, event, row)

    def _end(self, status: str, error: str | None = None) -> None:
        self.show(self.model, True)
        self._tell_status(status, error)

    def _tell_status(self, status: str, error: str | None = None) -> None:
        seconds = time.perf_counter() - self.started - self.control.waited
        facts = {"status": status, "error": error, "seconds": seconds, "pace": self.control.pace}
        self.tell("status", facts)


def run_slices(job: Job) -> bool:
    """Train by minibatches, a slice of an epoch at a time; False if it was stopped."""
    settings = job.run_.settings
    loader = cs.DataLoader.from_dataset(
        job.data.train, settings["batch_size"], shuffle=True, seed=settings["seed"]
    )
    parts = cs.train_slices(
        job.model, loader, validation=job.data.test, epochs=settings["epochs"],
        slices=settings["slices"], optimizer=sgd_of(settings),
    )  # fmt: skip
    for part in parts:
        whole, after = part.of_epoch, part.validation
        job.show(job.model, whole is not None)
        job.tell("slice", {"x": part.x, "loss": part.loss, "accuracy": part.accuracy})
        if whole is not None and after is not None:
            job.history.add(whole, after)
            job.tell("epoch", {
                "epoch": part.epoch, "train_loss": whole.loss, "train_accuracy": whole.accuracy,
                "test_loss": after.loss, "test_accuracy": after.accuracy,
            })  # fmt: skip
            is_last = part.epoch == settings["epochs"]
            # at the end as the command line: worse than guessing is not what training is for
            most = 2 * math.log(job.model.n_classes) if is_last else math.inf
            if not whole.loss < most:
                raise ValueError(
                    f"training diverged: the loss is {whole.loss:.4g} nats; try a smaller learning "
                    "rate, or features scaled to about -1..1"
                )
            if is_last:
                return True
        if not job.control.go_on():
            return False
    return True
