"""What can be taken along: the model's file, tables, pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import csoftmax as cs
from csoftmax.app.job import Job
from csoftmax.app.safety import Refusal
from csoftmax.app.session import PageSession, View

_DRAWING = threading.Lock()  # Matplotlib draws one picture at a time
_PASSES: tuple[str, ...] = ("pass", "objective", "estimate", "loss")
_SWEEP = ("C", "train_accuracy", "test_loss", "test_accuracy", "n_selected", "validation_loss",
          "validation_accuracy")  # fmt: skip


def model_file(view: View) -> bytes:
    return _written("model.safetensors", view.model.save)


def history_csv(session: PageSession) -> bytes:
    """Return the figures of the run as a table: of epochs, of passes, or of each C."""
    job = _job(session)
    if job.run_.kind == "sgd":
        return _written("history.csv", job.history.to_csv)
    names, rows = (_PASSES, job.run_.passes)
    if job.run_.kind == "sweep":
        names, rows = (_SWEEP, job.run_.sweep)
    lines = [",".join(names), *(",".join(map(repr, row)) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def curves_png(session: PageSession) -> bytes:
    from csoftmax import draw

    job = _job(session)
    run = job.run_
    if run.kind == "sgd":
        if not run.epochs:
            raise Refusal(409, "no epoch has ended yet: there is nothing to draw")
        return _drawn(lambda path: draw.draw_curves(job.history, path, validation_name="test"))
    if run.kind == "sweep" and run.sweep:
        rows = [dict(zip(_SWEEP, row, strict=True)) for row in run.sweep]
        rows = [{**row, "n_features": row["n_selected"]} for row in rows]
        return _drawn(lambda path: draw.draw_sweep(rows, path))
    if not run.passes:
        raise Refusal(409, "no pass has ended yet: there is nothing to draw")
    columns = zip(*run.passes, strict=True)
    history = dict(zip(("passes", "objective", "estimate", "loss"), columns, strict=True))
    return _drawn(lambda path: draw.draw_descent(history, path))


def confusion_png(view: View) -> bytes:
    from csoftmax import draw

    counts = cs.evaluate(view.model, view.data.test).confusion
    return _drawn(lambda path: draw.draw_confusion(counts, view.model.class_names, path))


def weights_png(view: View) -> bytes:
    from csoftmax import draw

    shape = view.data.shape
    if shape is None:
        raise Refusal(409, "the samples are no pictures: their weights are none either")
    names = view.model.class_names
    return _drawn(lambda path: draw.draw_weights(view.model.W, shape, names, path))


def _job(session: PageSession) -> Job:
    if session.job is None:
        raise Refusal(409, "nothing has been trained yet: start a training first")
    return session.job


def _drawn(draw: Callable[[Path], Any]) -> bytes:
    with _DRAWING:
        return _written("picture.png", draw)


def _written(name: str, write: Callable[[Path], Any]) -> bytes:
    with TemporaryDirectory(prefix="csoftmax-") as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()
