"""What the program knows: the data, the model, the run, and what is shown of them.

One job at a time changes the model. Everything else reads a copy that was made between two slices,
so that nobody sees weights that are half written.
"""

from __future__ import annotations

import base64
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import csoftmax as cs
from csoftmax.app import data as sets
from csoftmax.app.data import Data
from csoftmax.app.job import Job, Training
from csoftmax.app.log import Log
from csoftmax.app.safety import Refusal
from csoftmax.app.settings import SLOWEST, checked
from csoftmax.model import is_integer

SHOWN_EVERY = 1 / 60  # seconds between copies of the model of a run, at least
_PATIENCE = 5.0  # seconds, for a run that is told to stop


class View(NamedTuple):
    """A model as it was at one moment, and the data that it is looked at with."""

    version: int
    model: cs.SoftmaxRegression
    data: Data


class PageSession:
    """The one session of the program, whatever number of pages is open."""

    def __init__(
        self, data: Data, model: cs.SoftmaxRegression | None = None, is_own: bool = False
    ) -> None:
        self.log = Log()
        self._lock = threading.RLock()
        self._own = data if is_own else None  # what the program was started with
        self._job: Job | None = None
        self.data = data if model is None else data.for_model(model)
        self.view = View(0, data.fresh_model(0), data)
        self._view_of(self.view.model if model is None else model.copy(), self.data)
        self._shown_at = 0.0
        self._weights: tuple[int, Any] = (0, None)  # of which view, and how they are sent
        # of uploads, private to the user; one may still be read when it is deleted
        self.folder = tempfile.TemporaryDirectory(prefix="csoftmax-", ignore_cleanup_errors=True)

    # ---- what is told --------------------------------------------------------------------------

    @property
    def run(self) -> Training | None:
        return None if self._job is None else self._job.run_

    @property
    def job(self) -> Job | None:
        return self._job  # of the present run, also of one that has ended

    def state(self) -> dict[str, Any]:
        """Return all that a page needs to draw itself."""
        with self._lock:
            return {
                "version": cs.__version__, "data": self._described_data(),
                "model": self.described_model(), "event": self.log.last,
                "run": None if self.run is None else self.run.described(),
            }  # fmt: skip

    def _described_data(self) -> dict[str, Any]:
        names = [sets.FULL] if sets.has_fashion_mnist() else []
        names += [sets.SAMPLE] + ([sets.START] if self._own is not None else [])
        return self.data.described(names)

    def described_model(self) -> dict[str, Any]:
        """Return what the page is told of the model."""
        model = self.view.model
        return {
            "trained": bool(model.trained_with), "trained_with": model.trained_with,
            "n_features": model.n_features, "class_names": model.class_names,
        }  # fmt: skip

    def weights(self) -> Any:
        """Return the weights as pictures in bytes from -127 to 127; None where they are none."""
        view = self.view
        version, sent = self._weights
        shape = view.data.shape
        if version != view.version and shape is not None:
            sent = {"shape": [view.model.n_classes, *shape], **as_bytes(view.model.W.T)}
            self._weights = view.version, sent
        return None if shape is None else sent

    # ---- what a job tells ----------------------------------------------------------------------

    def _tell(self, run: Training, event: str, row: Any) -> None:
        with self._lock:
            run.add(event, row)
            if event == "status" and not run.is_going_on:
                self.log.add("model", self.described_model())
            self.log.add(event, row)

    def _show(self, model: cs.SoftmaxRegression, at_once: bool) -> None:
        now = time.perf_counter()
        if at_once or now - self._shown_at >= SHOWN_EVERY:
            self._shown_at = now
            self._view_of(model.copy(), self.data)

    def _view_of(self, model: cs.SoftmaxRegression, data: Data) -> None:
        """Show a model that nobody changes any more; it takes the data's scale if it has none."""
        if is_integer(data.train.X):
            model.scale = model.scale_for(data.train.X, data.train.scale)
        self.view = View(self.view.version + 1, model, data)
        self.log.wake()

    # ---- what the page asks for ----------------------------------------------------------------

    def start(self, given: Any) -> None:
        """Begin a run.

        Raises
        ------
        Refusal
            While another one goes on.
        ValueError
            For settings that do not fit.
        """
        kind, settings = checked(given)
        with self._lock:
            self.refuse_while_running()
            model = self.view.model.copy()
            if not settings.get("resume"):
                model = self.data.fresh_model(settings["seed"])
            x_end = settings["epochs"] if kind == "sgd" else settings["max_iter"]
            run = Training(kind, settings, settings.pop("pace"), x_end)
            job = self._job = Job(run, self.data, model, self._tell, self._show)
            self._view_of(model.copy(), self.data)
            self.log.add("run", run.described())
            job.start()

    def control(self, given: Any) -> None:
        """Pause, resume, step, stop or reset the run, or change its pace."""
        do = given.get("do") if isinstance(given, dict) else None
        if do == "reset":
            return self._reset()
        if do not in ("pause", "resume", "step", "stop", "pace"):
            raise ValueError(f"do is {do!r}, expected pause, resume, step, stop, reset or pace")
        job = self._job
        if job is None or not job.run_.is_going_on:
            raise Refusal(409, "no training is running: start one first")
        if do == "resume" and not job.control.is_paused:
            raise Refusal(409, "the training is running: it is not paused")
        if do == "pace":
            pace = float(sets.finite(given.get("pace"), "pace", 0, SLOWEST))
            job.control.set_pace(pace)
            with self._lock:
                if job.run_.is_going_on:
                    self._tell(job.run_, "status", job.run_.where() | {"pace": pace})
            return None
        actions = {
            "pause": job.control.pause, "resume": job.control.resume, "step": job.control.step,
            "stop": job.control.stop,
        }  # fmt: skip
        actions[do]()
        return None

    def _reset(self) -> None:
        """Stop the run and forget it and its model."""
        self.stop()
        with self._lock:
            self.refuse_while_running()
            seed = 0 if self.run is None else self.run.settings["seed"]
            self._job = None
            self._view_of(self.data.fresh_model(seed), self.data)
            self.log.add("run", None)
            self.log.add("model", self.described_model())

    def stop(self) -> None:
        """Stop the run, if there is one, and wait a moment for its end."""
        job = self._job
        if job is not None and job.is_alive():
            job.control.stop()
            job.join(_PATIENCE)

    def refuse_while_running(self) -> None:
        """Raise Refusal while a run goes on: it uses the data and the model."""
        if self.run is not None and self.run.is_going_on:
            raise Refusal(409, "a training is running: stop it first")

    def choose(self, name: Any) -> dict[str, Any]:
        """Take other data, of those that need no upload."""
        with self._lock:
            self.refuse_while_running()
        if name == sets.START and self._own is not None:
            return self._take(self._own)
        return self._take(sets.known(name))

    def read(self, path: Path, name: str, share: float, label_column: str | None) -> dict[str, Any]:
        """Take the data of an uploaded file."""
        return self._take(sets.uploaded(path, name, share, label_column))

    def _take(self, data: Data) -> dict[str, Any]:
        with self._lock:
            self.refuse_while_running()
            self.data, self._job = data, None
            self._view_of(data.fresh_model(0), data)
            described = self._described_data()
            self.log.add("run", None)
            self.log.add("data", described)
            self.log.add("model", self.described_model())
            return described

    def load(self, path: Path) -> dict[str, Any]:
        """Take the model of an uploaded file, and keep the data."""
        try:
            model = cs.SoftmaxRegression.load(path)
        except cs.DataError as error:
            raise ValueError(str(error).replace(f"{path}: ", "")) from error
        if not np.isfinite(model.W).all() or not (model.b < np.inf).all():
            raise ValueError("the model has weights that are not finite: its training diverged")
        with self._lock:
            self.refuse_while_running()
            self.data, self._job = self.data.for_model(model), None
            self._view_of(model, self.data)
            self.log.add("run", None)
            self.log.add("model", self.described_model())
            return self.described_model()

    def close(self) -> None:
        """Stop what runs and delete what was uploaded."""
        job = self._job
        if job is not None:
            job.control.stop()
            job.join(0.3)
        self.folder.cleanup()


def as_bytes(*arrays: Any) -> dict[str, Any]:
    """Return arrays as bytes from -127 to 127 in base64, and the number that 127 stands for."""
    limit = max(float(np.abs(array).max(initial=0)) for array in arrays)
    limit = limit if 0 < limit < np.inf else 1.0
    texts = []
    for array in arrays:
        scaled = np.nan_to_num(array * array.dtype.type(127 / limit))
        small = np.clip(np.rint(scaled), -127, 127).astype(np.int8)
        texts.append(base64.b64encode(small.tobytes()).decode())
    return {"limit": limit, "int8": texts[0] if len(texts) == 1 else texts}
