"""Why the model says what it says of one sample, down to the formula with its numbers."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.app.data import features_of, pixels_of
from csoftmax.app.look import feature_name
from csoftmax.app.session import View, as_bytes
from csoftmax.core.sparse import CSR
from csoftmax.model import is_integer

Array = NDArray[Any]
_TERMS = 5
_SHOWN = 20


def of_row(view: View, part: str, row: int) -> dict[str, Any]:
    """Explain the prediction for a sample of a set."""
    data = view.data.part(part)
    if not 0 <= row < len(data):
        raise ValueError(f"row is {row}, expected 0..{len(data) - 1}")
    X = features_of(data, slice(row, row + 1))
    pixels = None if view.data.shape is None else pixels_of(data, row)
    return explained(view, X, pixels, int(data.y[row]))


def explained(
    view: View, X: Any, pixels: Array | None, label: int | None, note: str | None = None
) -> dict[str, Any]:
    """Return logits, probabilities, what speaks for the first two classes, and the formula.

    ``o = x W + b``, ``p_k = exp(o_k - max o) / sum_j exp(o_j - max o)``, ``loss = -log p_label``.
    X is the sample as `SoftmaxRegression.predict` takes it, (1, n_features).
    """
    model = view.model
    logits = model.decision_function(X)[0].astype(np.float64)
    largest = float(logits.max())
    exps = np.exp(logits - largest)
    total = float(exps.sum())
    order = np.argsort(-logits, kind="stable")
    first, second = int(order[0]), int(order[1]) if len(order) > 1 else int(order[0])
    x = _inputs(view, X)
    W = model.W
    products = [x * W[:, k].astype(np.float64) for k in (first, second)]
    loss = None if label is None else math.log(total) - (float(logits[label]) - largest)
    return {
        "pixels": None if pixels is None else base64.b64encode(pixels.tobytes()).decode(),
        "label": label, "logits": logits.tolist(), "probabilities": (exps / total).tolist(),
        "bias": model.b.tolist(), "loss": loss, "inverted": note == "inverted", "note": note,
        "why": {"first": first, "second": second, **_why(view, x, products)},
        "formula": {
            "class": first, "max": largest, "exps": exps.tolist(), "total": total,
            **_sum(view, x, W[:, first], products[0]),
        },
    }  # fmt: skip


def _inputs(view: View, X: Any) -> Array:
    """Return one sample as the formula has it: in float64, times the scale."""
    row = X.toarray() if isinstance(X, CSR) else np.asarray(X)
    scale = view.model.scale_for(X, 1.0) if is_integer(X) else 1.0
    return row.reshape(-1).astype(np.float64) * scale


def _why(view: View, x: Array, products: list[Array]) -> dict[str, Any]:
    sums = [float(product.sum()) for product in products]
    if view.data.shape is not None:
        maps = as_bytes(*products)
        first_map, second_map = maps["int8"]
        return {
            "first_map": first_map, "second_map": second_map, "limit": maps["limit"], "sums": sums,
        }  # fmt: skip
    weight = np.maximum(*map(np.abs, products))
    terms = [
        (feature_name(view, int(j)), float(x[j]), float(products[0][j]), float(products[1][j]))
        for j in np.argsort(-weight, kind="stable")[:_SHOWN] if weight[j] > 0
    ]  # fmt: skip
    return {"terms": terms, "sums": sums}


def _sum(view: View, x: Array, w: Array, product: Array) -> dict[str, Any]:
    """Return the largest terms of a logit by name, and the sum of the others."""
    largest = np.argsort(-np.abs(product), kind="stable")[:_TERMS]
    terms = [
        (feature_name(view, int(j)), float(x[j]), float(w[j]), float(product[j])) for j in largest
    ]
    return {"terms": terms, "rest": float(product.sum() - product[largest].sum())}
