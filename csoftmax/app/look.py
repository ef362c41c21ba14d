"""What the page shows of a model on data: samples, mistakes, the confusion matrix, calibration."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.app.data import features_of, pixels_of
from csoftmax.app.session import View
from csoftmax.core.sparse import CSR
from csoftmax.rows.base import blocks

Array = NDArray[Any]
MOST_ITEMS = 200  # at once
_VALUES = 20  # of a table's row
_BINS = 10  # of calibration
_AT_ONCE = 1 << 22  # probabilities


@lru_cache(maxsize=2)
def guesses(view: View, part: str) -> tuple[NDArray[np.int64], Array]:
    """Return the predicted class of each sample of a set, and its probability."""
    data = view.data.part(part)
    predicted, sure = np.empty(len(data), np.int64), np.empty(len(data))
    for rows in blocks(len(data), max(1, _AT_ONCE // view.model.n_classes)):
        probabilities = view.model.predict_proba(features_of(data, rows))
        predicted[rows] = probabilities.argmax(axis=1)
        sure[rows] = probabilities.max(axis=1)
    return predicted, sure


def samples(view: View, part: str, label: int, start: int, count: int) -> dict[str, Any]:
    """Return samples of a class; -1 stands for all classes."""
    data = view.data.part(part)
    rows = np.arange(len(data)) if label == -1 else np.flatnonzero(data.y == label)
    return page_of(view, part, rows, start, count)


def cell(view: View, true: int, predicted: int, start: int, count: int) -> dict[str, Any]:
    """Return the test samples of a cell of the confusion matrix."""
    guessed, _ = guesses(view, "test")
    rows = np.flatnonzero((view.data.test.y == true) & (guessed == predicted))
    return page_of(view, "test", rows, start, count)


def mistakes(view: View, count: int) -> dict[str, Any]:
    """Return the test samples whose wrong class the model was most certain of."""
    guessed, sure = guesses(view, "test")
    wrong = np.flatnonzero(guessed != view.data.test.y)
    rows = wrong[np.argsort(-sure[wrong], kind="stable")]
    return page_of(view, "test", rows, 0, count)


def page_of(view: View, part: str, rows: Array, start: int, count: int) -> dict[str, Any]:
    """Return some of the rows as the page shows them."""
    data = view.data.part(part)
    shown = rows[start : start + min(count, MOST_ITEMS)]
    items: list[dict[str, Any]] = []
    if len(shown):
        X = features_of(data, shown)
        probabilities = view.model.predict_proba(X)
        for i, row in enumerate(shown.tolist()):
            k = int(probabilities[i].argmax())
            item = {
                "row": row, "label": int(data.y[row]), "predicted": k,
                "probability": float(probabilities[i, k]),
            }  # fmt: skip
            if view.data.shape is not None:
                item["pixels"] = base64.b64encode(pixels_of(data, row).tobytes()).decode()
            else:
                item["values"] = _values(view, X[i : i + 1], k)
            items.append(item)
    return {"total": len(rows), "items": items}


def feature_name(view: View, j: int) -> str:
    """Return what a feature is called: its name, its place in the picture, or its number."""
    names, shape = view.data.train.feature_names, view.data.shape
    if names:
        return names[j]
    return str(j) if shape is None else f"({j // shape[1]}, {j % shape[1]})"


def _values(view: View, X: Any, k: int) -> list[tuple[str, float]]:
    """Return the features of a row that the model weighs most, with their values."""
    W = view.model.W
    if isinstance(X, CSR):
        j, x = X.indices.astype(np.intp), X.data
        order = np.argsort(-np.abs(x * W[j, k]), kind="stable")[:_VALUES]
        return [(feature_name(view, int(j[i])), float(x[i])) for i in order]
    x = X.reshape(-1)
    return [(feature_name(view, j), float(x[j])) for j in heaviest(view)]


@lru_cache(maxsize=2)
def heaviest(view: View) -> list[int]:
    """Return the features with the largest weights in any class."""
    order: list[int] = np.argsort(-np.abs(view.model.W).max(axis=1), kind="stable").tolist()
    return order[:_VALUES]


def features(view: View, label: int, count: int) -> dict[str, Any]:
    """Return the features that speak most for a class, and most against it."""
    if not 0 <= label < view.model.n_classes:
        raise ValueError(f"class is {label}, expected 0..{view.model.n_classes - 1}")
    w = view.model.W[:, label]
    order = np.argsort(w, kind="stable")
    count = min(count, MOST_ITEMS)

    def named(rows: list[int]) -> list[tuple[str, float]]:
        return [(feature_name(view, j), float(w[j])) for j in rows]

    return {
        "for": named([j for j in order[::-1][:count].tolist() if w[j] > 0]),
        "against": named([j for j in order[:count].tolist() if w[j] < 0]),
    }


@lru_cache(maxsize=1)
def confusion(view: View) -> dict[str, Any]:
    """Return how good the model is on the test set: in all, by class, and how well calibrated."""
    data, model = view.data.test, view.model
    metrics = cs.evaluate(model, data)
    n_classes = model.n_classes
    # by class and bin: how many predictions, the sum of their probabilities, how many were right
    sums = np.zeros((3, n_classes, _BINS))
    for rows in blocks(len(data), max(1, _AT_ONCE // n_classes)):
        probabilities = model.predict_proba(features_of(data, rows)).astype(np.float64)
        bins = np.clip((probabilities * _BINS).astype(np.intp), 0, _BINS - 1)
        flat = (np.arange(n_classes) * _BINS + bins).reshape(-1)
        right = np.zeros_like(probabilities)
        right[np.arange(len(right)), data.y[rows]] = 1
        for total, weights in zip(sums, (None, probabilities, right), strict=True):
            values = None if weights is None else weights.reshape(-1)
            total += np.bincount(flat, values, total.size).reshape(total.shape)
    return {
        "loss": metrics.loss, "accuracy": metrics.accuracy, "n": metrics.n_samples,
        "confusion": metrics.confusion.tolist(), "precision": metrics.precision.tolist(),
        "recall": metrics.recall.tolist(),
        "calibration": [
            {"class": None, "bins": _bins(sums.sum(axis=1))},  # of all classes together
            *({"class": k, "bins": _bins(sums[:, k])} for k in range(n_classes)),
        ],
    }  # fmt: skip


def _bins(sums: Array) -> list[list[float]]:
    """Return the bins that have predictions: mean probability, share that was right, how many."""
    return [[float(total / n), float(right / n), int(n)] for n, total, right in sums.T if n > 0]
