"""An estimator as something else: a safetensors file, a scikit-learn classifier, and back."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.utils.validation import check_is_fitted

from csoftmax.core.checks import FLOAT32, FLOAT64, check_number, check_positive
from csoftmax.core.errors import DataError
from csoftmax.core.tensors import FORMAT_VERSION, read_parameters, write_parameters
from csoftmax.estimators.base import UNKNOWN_GAP, Gap, LinearSoftmax, dense_coef
from csoftmax.estimators.inputs import check_C
from csoftmax.model import SoftmaxRegression
from csoftmax.solver.stopping import check_tol
from csoftmax.solver.two_classes import estimator_C, estimator_form, softmax_form

Array = NDArray[Any]
Self = TypeVar("Self", bound="Convertible")
LAYOUTS = ("classes", "features", "sparse")  # of coef_ in memory
LABEL_KINDS: dict[str, Any] = {"b": bool, "i": int, "u": int, "f": (int, float), "U": str,
               "O": (bool, int, float, str)}  # fmt: skip

# ---- files -------------------------------------------------------------------------------------


def save_classifier(
    estimator: LinearSoftmax, path: str | os.PathLike[str], facts: dict[str, Any]
) -> None:
    """Write parameters, classes and `facts` to one safetensors file, whole or not at all.

    `SoftmaxRegression.load` reads it too: the model without the classifier around it.
    """
    coef, intercept = dense_coef(estimator), np.asarray(estimator.intercept_)
    dtype = FLOAT64 if FLOAT64 in (coef.dtype, intercept.dtype) else FLOAT32
    weight, bias = softmax_form(coef.astype(dtype), intercept.astype(dtype))
    names = getattr(estimator, "feature_names_in_", None)
    description = {
        "scale": 1.0,
        "class_names": [str(label) for label in estimator.classes_.tolist()],
        "classifier": {
            "kind": type(estimator).__name__,
            "classes": _described(estimator.classes_),
            "layout": _layout(estimator.coef_),
            "feature_names": None if names is None else [str(name) for name in names],
            **facts,
        },
    }
    write_parameters(path, np.ascontiguousarray(weight), np.ascontiguousarray(bias), description)


def load_classifier(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, Any], Array, Array, Array]:
    """Return what the file says of the classifier, its classes, coef_ and intercept_."""
    path = Path(path)
    description, weight, bias = read_parameters(path)
    facts = description.get("classifier")
    if facts is None:
        return _of_model(SoftmaxRegression.load(path), path)
    if not isinstance(facts, dict):
        raise DataError(f"{path}: expected a description of the classifier, got {facts!r}")
    if facts.get("kind") != kind:
        raise DataError(f"{path}: expected a {kind}, got a {facts.get('kind')!r}")
    if description.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path}: expected format version {FORMAT_VERSION}, "
            f"got {description.get('format_version')!r}"
        )
    try:
        classes = _restored(facts["classes"])
        layout = facts.get("layout", "classes")
        if layout not in LAYOUTS:
            raise ValueError(f"layout {layout!r}, not one of {LAYOUTS}")
        names = facts["feature_names"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: the metadata do not fit a classifier: {error!r}") from None
    if len(classes) != len(bias) or len(bias) < 2:
        raise DataError(f"{path}: expected at least 2 classes, one per row of weight: "
                        f"got {len(classes)} and {len(bias)} rows")  # fmt: skip
    if names is not None and not (
        isinstance(names, list)
        and len(names) == weight.shape[1]
        and all(isinstance(name, str) for name in names)
    ):
        raise DataError(f"{path}: expected one feature name per column of weight")
    coef, intercept = estimator_form(weight, bias)
    return facts, classes, np.asarray(coef, order="C" if layout == "classes" else "F"), intercept


def _layout(coef: Any) -> str:
    """Return how coef_ lies in memory: by classes, by features, or as a sparse array."""
    if hasattr(coef, "toarray"):
        return "sparse"
    return "classes" if np.asarray(coef).flags.c_contiguous else "features"


def _of_model(model: SoftmaxRegression, path: Path) -> tuple[dict[str, Any], Array, Array, Array]:
    """Return a bare model as a classifier: of integers as they are, so the scale goes into coef_.

    Names that are integers stand for integer labels.
    """
    names = list(model.class_names)
    numbers = all(name.removeprefix("-").isdecimal() and str(int(name)) == name for name in names)
    given = np.array([int(name) for name in names] if numbers else names)
    classes, order = np.unique(given, return_index=True)  # sorted, as a classifier's are
    if len(classes) < max(2, len(names)):
        raise DataError(f"{path}: expected at least 2 classes of different names, got {names}")
    coef, intercept = estimator_form(model.scale * model.W.T[order], model.b[order])
    try:
        facts = _how_trained(model)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: trained_with does not fit a classifier: {error!r}") from None
    return {**facts, "feature_names": list(model.feature_names) or None}, classes, coef, intercept


def _how_trained(model: SoftmaxRegression) -> dict[str, Any]:
    """Return how a bare model was trained, as settings of a classifier of unscaled features.

    ``coef_ = scale W``, so that ``||coef_||^2 / (2 scale^2 C) = ||W||^2 / (2 C)`` and
    ``||coef_||_1 / (scale C) = ||W||_1 / C``. A weight decay penalises the mean loss by
    ``weight_decay / 2 ||W||^2``: C is ``1 / (weight_decay n_samples)`` in the softmax's form.
    """
    facts, square = model.trained_with, model.scale**2
    if facts.get("solver") in ("lbfgs", "newton-cd"):
        check_C(facts["C"])
        check_tol(facts["tol"])
        ratio = check_number(facts.get("l1_ratio", 0.0), "l1_ratio")
        # what multiplies ||coef_||_1 and ||coef_||^2 / 2
        of_l1, of_l2 = ratio / model.scale, (1 - ratio) / square
        settings = {"C": facts["C"] / (of_l1 + of_l2),
                    "l1_ratio": of_l1 / (of_l1 + of_l2),
                    "tol": facts["tol"],
                    "max_iter": check_positive(facts["max_iter"], "max_iter")}  # fmt: skip
    elif facts.get("solver") == "sgd":
        n_samples = check_positive(facts["n_samples"], "n_samples")
        penalty = check_number(facts["weight_decay"], "weight_decay") * n_samples
        C = estimator_C(square / penalty if penalty > 0 else math.inf, model.n_classes)
        settings = {"solver": "sgd", "C": C,
                    "momentum": check_number(facts["momentum"], "momentum"),
                    "batch_size": check_positive(facts["batch_size"], "batch_size"),
                    "max_iter": check_positive(facts["epochs"], "epochs")}  # fmt: skip
        rate, of_bias = check_number(facts["lr"], "lr"), facts.get("bias_lr")
        settings["fit_intercept"] = of_bias != 0 or bool(model.b.any())
        # one rate for weights and intercepts is what a classifier of unscaled features has
        if square == 1 and (of_bias in (None, rate) or not settings["fit_intercept"]):
            settings["learning_rate"] = rate
    else:
        settings = {}
    n_iter = facts.get("n_iter", facts.get("epochs", 0))
    return {"settings": settings, "n_iter": [n_iter], "gap": facts.get("gap", UNKNOWN_GAP)}


def _described(classes: Array) -> dict[str, Any]:
    kind = classes.dtype.kind
    values = [_plain(value) for value in classes.tolist()]
    for value in values:
        if not isinstance(value, LABEL_KINDS.get(kind, ())):
            raise TypeError(
                f"the class {value!r} is a {type(value).__name__} of dtype {classes.dtype}, "
                "expected strings, integers, floats or bools: other labels cannot be saved"
            )
    return {"dtype": "object" if kind == "O" else classes.dtype.str, "labels": values}


def _plain(value: Any) -> Any:
    """Return a setting or a label as JSON has it: no number of NumPy's, no mapping.

    The keys of JSON are strings, so a mapping becomes a list of pairs.
    """
    if isinstance(value, Mapping):
        return [[_plain(key), _plain(weight)] for key, weight in value.items()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, numbers.Real) and not isinstance(value, (int, float)):
        return float(value)
    return value


def _restored(described: Any) -> Array:
    dtype = np.dtype(described["dtype"])
    labels = described["labels"]
    allowed = LABEL_KINDS.get(dtype.kind, ())
    if not isinstance(labels, list) or not all(isinstance(each, allowed) for each in labels):
        raise TypeError(f"classes {labels!r}, not a list of {dtype} labels")
    return np.array(labels, dtype)


# ---- scikit-learn ------------------------------------------------------------------------------


def from_logistic_regression(classifier: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings and the fitted attributes of a `LogisticRegression` that exist here."""
    if not isinstance(classifier, LogisticRegression):
        raise TypeError(
            f"classifier is a {type(classifier).__name__}, expected a LogisticRegression"
        )
    check_is_fitted(classifier, "coef_")
    one_against_rest = getattr(classifier, "multi_class", None) == "ovr"
    if len(classifier.classes_) > 2 and (one_against_rest or classifier.solver == "liblinear"):
        raise ValueError(
            "classifier has one-against-rest probabilities, expected those of a softmax"
        )
    settings = {
        "fit_intercept": classifier.fit_intercept,
        "class_weight": classifier.class_weight,
        "random_state": classifier.random_state,
    }
    if isinstance(classifier, LogisticRegressionCV):
        settings["C"] = float(np.ravel(classifier.C_)[0])
        ratio = np.ravel(getattr(classifier, "l1_ratio_", 0.0))[0]
        settings["l1_ratio"] = float(ratio or 0.0)  # None: an older scikit-learn without L1
    else:
        unpenalised = classifier.get_params().get("penalty", "l2") is None
        settings["C"] = float("inf") if unpenalised else classifier.C
        settings["l1_ratio"] = _l1_ratio_of(classifier)
        settings["warm_start"] = classifier.warm_start
    coef = classifier.coef_
    coef = coef.copy() if hasattr(coef, "toarray") else np.array(coef)
    intercept = np.broadcast_to(np.asarray(classifier.intercept_, coef.dtype), coef.shape[0])
    parameters = {
        "classes_": classifier.classes_,
        "coef_": coef,
        "intercept_": intercept.copy(),
        "n_iter_": np.ravel(np.array(classifier.n_iter_, np.int32))[:1],
        "n_features_in_": classifier.n_features_in_,
    }
    if hasattr(classifier, "feature_names_in_"):
        parameters["feature_names_in_"] = classifier.feature_names_in_
    return settings, parameters


def _l1_ratio_of(classifier: LogisticRegression) -> float:
    """Return the share of L1; before scikit-learn 1.8 `penalty` said whether there is any."""
    penalty = {"l1": 1.0, "l2": 0.0}.get(classifier.get_params().get("penalty", ""))
    return float(getattr(classifier, "l1_ratio", 0.0) or 0.0) if penalty is None else penalty


def _with_l1(ratio: float) -> dict[str, Any]:
    """Return the settings of a `LogisticRegression` with such a penalty."""
    if not ratio:
        return {}
    settings: dict[str, Any] = {"solver": "saga", "l1_ratio": ratio}
    if not isinstance(LogisticRegression().l1_ratio, float):  # before 1.8
        settings["penalty"] = "elasticnet"
    return settings


def as_logistic_regression(estimator: Any) -> LogisticRegression:
    """Return a fitted `LogisticRegression`, its parameters in float64.

    A sparse coef_ keeps its float type: scikit-learn multiplies sparse arrays of one type only.
    """
    check_is_fitted(estimator, "coef_")
    C = estimator.C_ if hasattr(estimator, "C_") else estimator.C
    theirs = LogisticRegression(
        C=C, fit_intercept=estimator.fit_intercept, class_weight=estimator.class_weight,
        random_state=estimator.random_state, warm_start=getattr(estimator, "warm_start", False),
        **_with_l1(estimator.l1_ratio if math.isfinite(C) else 0.0),
    )  # fmt: skip
    theirs.classes_ = estimator.classes_
    is_sparse = hasattr(estimator.coef_, "toarray")
    theirs.coef_ = estimator.coef_.copy() if is_sparse else estimator.coef_.astype(np.float64)
    theirs.intercept_ = np.array(estimator.intercept_, np.float64)
    theirs.n_iter_ = np.ravel(estimator.n_iter_)[-1:].astype(np.int32)
    theirs.n_features_in_ = estimator.n_features_in_
    if hasattr(estimator, "feature_names_in_"):
        theirs.feature_names_in_ = estimator.feature_names_in_
    return theirs


class Convertible(LinearSoftmax):
    """What makes a classifier a file, or one of scikit-learn's, and back."""

    class_weight: Any
    random_state: Any
    n_iter_: Array
    gap_: Gap
    history_: dict[str, list[float]]
    _seen: float  # weight of all samples so far
    _absent: list[int]  # classes without a sample in the last fit

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, classes and settings to one safetensors file, whole or not at all.

        Classes may be strings, integers, floats and bools; weights of 0 take room too, but a sparse
        `coef_` is one again when it is read. `SoftmaxRegression.load` and the command
        line read the file too. Not kept: the history, a RandomState instance, SGD's velocities.

        Parameters
        ----------
        path : path
            Replaced if it exists.

        Raises
        ------
        TypeError
            For classes of another kind, or a setting that is no plain value.
        OSError
            If it cannot be written.

        Examples
        --------
        >>> import tempfile, pathlib, csoftmax as cs
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "animals.safetensors"
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["cat", "cat", "dog", "dog"]
        >>> cs.SoftmaxClassifier().fit(X, y).save(path)
        >>> print(cs.SoftmaxClassifier.load(path).predict([[0.0], [3.0]]))
        ['cat' 'dog']
        """
        check_is_fitted(self, "coef_")
        settings = {name: _plain(value) for name, value in self.get_params(deep=False).items()}
        if isinstance(self.random_state, np.random.RandomState):
            settings["random_state"] = None
        facts = {
            "settings": settings,
            "n_iter": self.n_iter_.tolist(),
            "gap": [float(value) for value in self.gap_],
            "weight_seen": getattr(self, "_seen", 0.0),
            "absent": getattr(self, "_absent", []),
        }
        save_classifier(self, path, facts)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """Read a classifier that `save` wrote; nothing in the file is executed.

        A model of ``SoftmaxRegression.save`` or of ``python -m csoftmax train`` is read too, as a
        classifier of the integers as they are stored: ``coef_`` is its W times its scale (pixels
        from 0 to 255 go in, not their 255ths). Its class names become `classes_`, integers where
        all of them are. The settings are those of its training, C in units of unscaled features
        (after SGD the C that equals its weight decay, inf without any), and the defaults where the
        file does not tell.

        Parameters
        ----------
        path : path

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        DataError
            If it is no safetensors file of a model; says what was expected, what came.
        """
        facts, classes, coef, intercept = load_classifier(path, cls.__name__)
        names = facts["feature_names"]
        try:
            classifier = cls(**facts["settings"])
            if isinstance(classifier.class_weight, list):
                classifier.class_weight = dict(classifier.class_weight)
            classifier.n_iter_ = np.array(facts["n_iter"], np.int32)
            classifier.gap_ = Gap(*map(float, facts["gap"]))
            classifier._seen = float(facts.get("weight_seen", 0.0))
            classifier._absent = [int(k) for k in facts.get("absent", [])]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: the metadata do not fit a classifier: {error!r}") from None
        classifier.classes_, classifier.coef_, classifier.intercept_ = classes, coef, intercept
        classifier.n_features_in_ = coef.shape[1]
        if names is not None:
            classifier.feature_names_in_ = np.array(names, object)
        classifier.history_ = {}
        return classifier.sparsify() if facts.get("layout") == "sparse" else classifier

    @classmethod
    def from_sklearn(cls: type[Self], classifier: Any) -> Self:
        """Return a classifier with the parameters of a fitted ``LogisticRegression``.

        Its C, l1_ratio, fit_intercept, class_weight, random_state and warm_start are taken over;
        tol and max_iter mean something else here.

        Parameters
        ----------
        classifier : sklearn.linear_model.LogisticRegression or LogisticRegressionCV

        Raises
        ------
        TypeError
            For anything else.
        ValueError
            For one-against-rest probabilities of more than two classes.

        Examples
        --------
        >>> import csoftmax as cs
        >>> from sklearn.linear_model import LogisticRegression
        >>> theirs = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        >>> print(cs.SoftmaxClassifier.from_sklearn(theirs).predict([[0.5], [2.5]]))
        [0 1]
        """
        settings, parameters = from_logistic_regression(classifier)
        ours = cls(**settings)
        for name, value in parameters.items():
            setattr(ours, name, value)
        ours.history_, ours.gap_ = {}, UNKNOWN_GAP
        return ours

    def to_sklearn(self) -> Any:
        """Return a fitted ``LogisticRegression`` with these parameters, in float64.

        Examples
        --------
        >>> import csoftmax as cs
        >>> ours = cs.SoftmaxClassifier().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        >>> ours.to_sklearn()
        LogisticRegression()
        """
        return as_logistic_regression(self)
