"""Scorers of scikit-learn, as a cross-validation asks them."""

from __future__ import annotations

import inspect
from typing import Any

from numpy.typing import NDArray
from sklearn.metrics import get_scorer, make_scorer

Array = NDArray[Any]


def score_of(
    scorer: Any, where: str, model: Any, X: Array, y: Array, given: dict[str, Any]
) -> float:
    """Return what a scorer says; errors begin with `where`, the fold and C."""
    try:
        score = scorer(model, X, y, **given)
    except ValueError as error:
        raise ValueError(f"{where} failed: {error}") from error
    try:
        return float(score)
    except (TypeError, ValueError):
        raise TypeError(f"{where} is a {type(score).__name__}, expected a number") from None


def scorer_of(scoring: Any) -> Any:
    """Return the scorer of a name or a function; a metric is no scorer."""
    scorer = get_scorer(scoring or "accuracy")
    if str(getattr(scorer, "__module__", "")).startswith("sklearn.metrics.") and inspect.isfunction(
        scorer
    ):
        raise ValueError(
            f"scoring is the metric {scorer.__name__}, expected a scorer: its name, or "
            f"sklearn.metrics.make_scorer({scorer.__name__})"
        )
    return scorer


def for_classes(scorer: Any, classes: Array) -> Any:
    """Return a scorer that knows all classes, of which the samples to score may lack some."""
    function = getattr(scorer, "_score_func", None)
    known = inspect.signature(function).parameters if function is not None else {}
    if "labels" not in known:
        return scorer
    settings = {"labels": classes}
    if len(classes) == 2 and "pos_label" in known:
        settings["pos_label"] = classes[1]
    return make_scorer(
        function, response_method=scorer._response_method, greater_is_better=scorer._sign > 0,
        **{**settings, **scorer._kwargs},
    )  # fmt: skip
