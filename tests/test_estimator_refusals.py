"""`SoftmaxClassifier`: settings and data that are refused, and what the errors say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from estimator_cases import small
from sklearn.exceptions import NotFittedError

from csoftmax.estimators import SoftmaxClassifier

WRONG_SETTINGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"C": 0}, ValueError, r"C is 0, expected a number > 0 \(inf for no penalty\)"),
    ({"C": math.nan}, ValueError, "C is nan"),
    ({"C": "1"}, TypeError, "C is '1', expected a number"),
    ({"C": True}, TypeError, "C is True"),
    ({"l1_ratio": 1.5}, ValueError, "l1_ratio is 1.5, expected a number from 0 to 1"),
    ({"l1_ratio": None}, TypeError, "l1_ratio is a NoneType"),
    ({"l1_ratio": 0.5, "solver": "lbfgs"}, ValueError, '"newton-cd" or "sgd" with L1'),
    ({"solver": "newton-cd"}, ValueError, '"lbfgs" or "sgd" without L1'),
    ({"l1_ratio": 1.0, "C": math.inf, "solver": "newton-cd"}, ValueError, "C is inf"),
    ({"tol": -1.0}, ValueError, "tol is -1.0, expected a number >= 0"),
    ({"fit_intercept": 1}, TypeError, "fit_intercept is 1, expected True or False"),
    ({"solver": "saga"}, ValueError, "solver is 'saga', expected one of 'auto', 'lbfgs'"),
    ({"max_iter": -1}, ValueError, "max_iter is -1, expected at least 0"),
    ({"max_iter": 1.5}, TypeError, "max_iter is a float, expected an integer"),
    ({"class_weight": "even"}, ValueError, "class_weight is 'even', expected a dict, \"balanced\""),
    ({"class_weight": {0: 1.0, 7: 1.0}}, ValueError, "class_weight has the key 7, expected the"),
    ({"class_weight": {0: -1.0}}, ValueError, r"class_weight\[0\] is -1.0, expected at least 0"),
    ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "class_weight is zero for every class"),
    ({"batch_size": 0}, ValueError, "batch_size is 0"),
    ({"learning_rate": "fast"}, ValueError, "learning_rate is 'fast', expected a number or"),
    ({"learning_rate": -0.1}, ValueError, "learning_rate is -0.1, expected a number > 0"),
    ({"momentum": 1.0}, ValueError, r"momentum is 1.0, expected a number in \[0, 1\)"),
    ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change is 0"),
    ({"early_stopping": "yes"}, TypeError, "early_stopping is 'yes', expected True or False"),
    ({"early_stopping": True, "validation_fraction": 1.5}, ValueError, "validation_fraction is 1"),
    ({"warm_start": None}, TypeError, "warm_start is None"),
    ({"n_threads": 0}, ValueError, "n_threads is 0"),
    ({"max_memory": "2 elephants"}, ValueError, "max_memory is '2 elephants', expected bytes > 0"),
    ({"max_memory": "1.2.3 GB"}, ValueError, "max_memory is '1.2.3 GB'"),
    ({"max_memory": -5}, ValueError, "max_memory is -5"),
    ({"verbose": -1}, ValueError, "verbose is -1, expected 0 or more"),
    ({"random_state": "dice"}, ValueError, "dice"),
]


@pytest.mark.parametrize(("settings", "error", "message"), WRONG_SETTINGS)
def test_wrong_settings(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y = small()
    with pytest.raises(error, match=message):
        SoftmaxClassifier(**settings).fit(X, y)


def test_wrong_data() -> None:
    X, y = small()
    classifier = SoftmaxClassifier()
    with pytest.raises(ValueError, match="y has only one class, 'a'; expected at least two"):
        classifier.fit(X, ["a"] * len(X))
    with pytest.raises(ValueError, match="sample_weight has shape"):
        classifier.fit(X, y, np.ones(3))
    with pytest.raises(ValueError, match=r"sample_weight\[4\] is -1"):
        classifier.fit(X, y, np.where(np.arange(len(y)) == 4, -1.0, 1.0))
    with pytest.raises(ValueError, match="sample_weight is zero for every sample"):
        classifier.fit(X, y, 0.0)
    with pytest.raises(ValueError, match="validation has the label 9, expected one of"):
        classifier.fit(X, y, validation=(X[:2], [9, 1]))
    with pytest.raises(TypeError, match=r"validation is a ndarray, expected a pair \(X, y\) or"):
        classifier.fit(X, y, validation=X)
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    many = np.arange(120) % 10
    with pytest.raises(ValueError, match=r"0, 1, 2, 3, 4, 5, \.\.\. \(10 in all\)"):
        classifier.fit(X, many, validation=(X[:1], [11]))


def test_images_are_refused_with_a_word_of_what_would_do() -> None:
    images, y = np.zeros((6, 2, 2), np.uint8), [0, 1] * 3
    message = r"X has shape \(6, 2, 2\), expected .*; X.reshape\(len\(X\), -1\) has it"
    flat = images.reshape(6, -1)
    for call in (
        lambda: SoftmaxClassifier().fit(images, y),
        lambda: SoftmaxClassifier().partial_fit(images, y, classes=[0, 1]),
        lambda: SoftmaxClassifier().fit(flat, y, validation=(images, y)),
        lambda: SoftmaxClassifier().fit(flat, y).predict(images),
    ):
        with pytest.raises(ValueError, match=message):
            call()
