"""`SoftmaxClassifier`: what pickles, copies and files keep, and which files are refused."""

from __future__ import annotations

import copy
import json
import math
import pickle
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from estimator_cases import IRIS, small
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

import csoftmax as cs
from csoftmax.data import DataError
from csoftmax.estimators import SoftmaxClassifier, VersionWarning

LABELS = {
    "str": np.array(["zebra", "ant", "bee"]),
    "int": np.array([30, -10, 2**60]),
    "uint8": np.array([3, 1, 200], np.uint8),
    "float": np.array([0.0, 1.0, 2.0]),
    "object": np.array(["zebra", "ant", "bee"], object),
    "bool": np.array([False, True]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_survive_a_file(kind: str, tmp_path: Path) -> None:
    labels = LABELS[kind]
    X, y = small(len(labels))
    classifier = SoftmaxClassifier().fit(X, labels[y])
    assert classifier.classes_.tolist() == sorted(labels.tolist())
    classifier.save(tmp_path / "model.safetensors")
    loaded = SoftmaxClassifier.load(tmp_path / "model.safetensors")
    assert loaded.classes_.dtype == classifier.classes_.dtype
    np.testing.assert_array_equal(loaded.classes_, classifier.classes_)
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))


@pytest.mark.parametrize("through", ["pickle", "joblib", "deepcopy", "file"])
def test_round_trips(through: str, tmp_path: Path) -> None:
    X, y = IRIS
    classifier = SoftmaxClassifier(C=0.7, class_weight={0: 1.0, 1: 2.0, 2: 1.0}, tol=1e-5)
    classifier.fit(pd.DataFrame(X, columns=list("abcd")), y)
    path = tmp_path / "model"
    if through == "pickle":
        other = pickle.loads(pickle.dumps(classifier))
    elif through == "joblib":
        joblib.dump(classifier, path)
        other = joblib.load(path)
    elif through == "deepcopy":
        other = copy.deepcopy(classifier)
    else:
        classifier.save(path)
        other = SoftmaxClassifier.load(path)
    frame = pd.DataFrame(X, columns=list("abcd"))
    np.testing.assert_array_equal(other.predict_proba(frame), classifier.predict_proba(frame))
    assert other.gap_ == classifier.gap_
    assert other.n_iter_.tolist() == classifier.n_iter_.tolist()
    assert other.get_params() == classifier.get_params()
    assert other.feature_names_in_.tolist() == list("abcd")


def test_a_file_is_a_model_too(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for n_classes in (2, 3):
        X, y = small(n_classes)
        labels = np.array(["ant", "bee", "cat"])[y]
        classifier = SoftmaxClassifier(random_state=np.random.RandomState(0)).fit(X, labels)
        classifier.save(path)
        model = cs.SoftmaxRegression.load(path)
        assert model.class_names == tuple(sorted(set(labels)))
        np.testing.assert_allclose(model(X), classifier.predict_proba(X), atol=1e-12)
        assert SoftmaxClassifier.load(path).random_state is None


def _rewritten(path: Path, change: Any) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="numpy") as file:
        key, text = next(iter(file.metadata().items()))
        tensors = {name: file.get_tensor(name) for name in ("weight", "bias")}
    description = json.loads(text)
    change(description)
    save_file(tensors, path, {key: json.dumps(description)})


BROKEN: list[tuple[str, Any, str]] = [
    ("no classifier", lambda d: d.update(classifier=3), "a description of the classifier, got 3"),
    ("another", lambda d: d["classifier"].update(kind="Tree"), "expected a SoftmaxClassifier, got"),
    ("version", lambda d: d.update(format_version=99), "expected format version 1, got 99"),
    ("no classes", lambda d: d["classifier"].pop("classes"), "KeyError"),
    ("labels", lambda d: d["classifier"]["classes"].update(labels=[1, {}, 2]), "labels"),
    ("dtype", lambda d: d["classifier"]["classes"].update(dtype="V8"), "labels"),
    ("count", lambda d: d["classifier"]["classes"].update(labels=[1, 2]), "one per row of weight"),
    ("huge", lambda d: d["classifier"]["classes"].update(labels=[1, 2, 2**80]), "OverflowError"),
    ("names", lambda d: d["classifier"].update(feature_names=["a"]), "one feature name per column"),
    ("settings", lambda d: d["classifier"]["settings"].update(evil=1), "evil"),
    ("gap", lambda d: d["classifier"].update(gap=["far"]), "do not fit a classifier"),
]


@pytest.mark.parametrize(("change", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_files_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    SoftmaxClassifier().fit(*IRIS).save(path)
    _rewritten(path, change)
    with pytest.raises(DataError, match=message) as caught:
        SoftmaxClassifier.load(path)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there_or_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such model file"):
        SoftmaxClassifier.load(tmp_path / "nothing")
    cs.SoftmaxRegression(2, 1).save(tmp_path / "lone")
    with pytest.raises(
        DataError, match="lone: expected at least 2 classes of different names, got"
    ):
        SoftmaxClassifier.load(tmp_path / "lone")


@pytest.mark.parametrize(
    ("n_classes", "names", "classes"),
    [
        (3, None, [0, 1, 2]),
        (2, ["-1", "1"], [-1, 1]),
        (2, ["01", "1"], ["01", "1"]),
        (3, ["a", "b", "7"], ["a", "b", "7"]),
    ],
)
def test_a_plain_model_is_loaded_as_a_classifier(
    n_classes: int, names: Any, classes: list[Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (50, 6), dtype=np.uint8), rng.integers(0, n_classes, 50)
    model = cs.SoftmaxRegression(6, n_classes, seed=0, scale=1 / 255, class_names=names)
    cs.train(model, (X, y), epochs=3)
    model.save(tmp_path / "plain")
    classifier = SoftmaxClassifier.load(tmp_path / "plain")
    assert classifier.classes_.tolist() == sorted(classes)
    order = np.argsort(classes)
    np.testing.assert_allclose(
        classifier.predict_proba(X), model.predict_proba(X)[:, order], atol=1e-6
    )
    labels = np.array(classes)[model.predict(X)]
    np.testing.assert_array_equal(classifier.predict(X), labels)
    assert math.isnan(classifier.gap_.estimate)
    labels = np.array(classes)[y]
    assert classifier.get_params()["C"] == math.inf  # no weight decay
    classifier.set_params(warm_start=True, solver="lbfgs", C=1.0, max_iter=1000).fit(X, labels)
    assert classifier.gap_.relative < 1e-3
    np.testing.assert_array_equal(clone(classifier).fit(X, labels).classes_, sorted(classes))


def command_line(folder: Path, X: Any, y: Any, *options: object) -> SoftmaxClassifier:
    from csoftmax.cli import main

    for part in ("X", "X_test"):
        np.save(folder / f"{part}.npy", X)
        np.save(folder / f"{part.replace('X', 'y')}.npy", y)
    words = ["train", "--data", folder, "--out", folder / "run", "--no-plots", "--quiet", *options]
    assert main([str(word) for word in words]) == 0
    return SoftmaxClassifier.load(folder / "run" / "model.safetensors")


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_a_model_of_the_command_line_has_its_C(
    n_classes: int, scale: float, tmp_path: Path
) -> None:
    """With that C scikit-learn ends where the command line did, on the samples as they are."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 150)
    X = np.clip(90 + 40 * np.eye(5)[y] + 30 * rng.normal(size=(150, 5)), 0, 255)
    X = X.astype(np.uint8 if scale < 1 else np.float64)
    words = ["--solver", "lbfgs", "--C", 0.7 if scale < 1 else 1e-4, "--tol", "1e-9"]
    loaded = command_line(tmp_path, X, y, *words, "--dtype", "float32" if scale < 1 else "float64")
    assert pytest.approx(0.7 / 255**2 if scale < 1 else 1e-4, rel=1e-6) == loaded.C
    assert (loaded.solver, loaded.tol, loaded.max_iter) == ("auto", 1e-9, 1000)
    assert 0 <= loaded.gap_.relative < 1e-6
    assert loaded.n_iter_[0] > 1
    theirs = LogisticRegression(C=loaded.C, solver="newton-cholesky", tol=1e-12).fit(X, y)
    np.testing.assert_allclose(loaded.predict_proba(X), theirs.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize(
    ("bias_lr", "fit_intercept", "learning_rate"),
    [(None, True, 0.25), (0.25, True, 0.25), (0.5, True, "auto"), (0.0, False, 0.25)],
)
def test_a_rate_of_the_bias_is_an_intercept_or_none(
    bias_lr: Any, fit_intercept: bool, learning_rate: Any, tmp_path: Path
) -> None:
    X, y = np.eye(4), np.array([0, 1, 2, 0])
    model = cs.SoftmaxRegression(4, 3, dtype="float64")
    cs.train(model, (X, y), epochs=1, optimizer=cs.SGD(0.25, bias_lr=bias_lr), progress=False)
    model.save(tmp_path / "m")
    loaded = SoftmaxClassifier.load(tmp_path / "m")
    assert (loaded.fit_intercept, loaded.learning_rate) == (fit_intercept, learning_rate)
    assert loaded.intercept_.any() == fit_intercept


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_weight_decay_is_a_C(n_classes: int, scale: float, tmp_path: Path) -> None:
    """Descent on all samples at once ends where scikit-learn ends with that C."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 60)
    X = rng.integers(-3, 4, (60, 4)) + 2 * np.eye(4, dtype=int)[y]
    model = cs.SoftmaxRegression(4, n_classes, seed=0, dtype="float64")
    batches = cs.DataLoader(X, y, 60, scale=scale)
    cs.train(model, batches, epochs=2000, optimizer=cs.SGD(0.3, weight_decay=0.05), progress=False)
    model.save(tmp_path / "m")
    loaded = SoftmaxClassifier.load(tmp_path / "m")
    assert (loaded.solver, loaded.max_iter, loaded.batch_size) == ("sgd", 2000, 60)
    assert loaded.learning_rate == (0.3 if scale == 1 else "auto")
    theirs = LogisticRegression(C=loaded.C, tol=1e-10, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(loaded.coef_, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(loaded.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


def test_the_sweep_and_the_last_training_say_how(tmp_path: Path) -> None:
    X, y = IRIS
    loaded = command_line(tmp_path, X, y, "--sweep", 12)
    assert loaded.C in np.logspace(-6, 5, 12)
    path = tmp_path / "run" / "model.safetensors"
    model = cs.SoftmaxRegression.load(path)
    assert model.trained_with["solver"] == "lbfgs"
    for epochs in (2, 3):
        cs.train(model, (X, y), epochs=epochs, optimizer=cs.SGD(0.01), progress=False)
    model.save(path)
    assert SoftmaxClassifier.load(path).get_params()["max_iter"] == 5
    cs.train(model, (X, y), epochs=1, optimizer=cs.SGD(0.02), progress=False)
    assert model.trained_with["epochs"] == 1


HOW: list[tuple[Any, str]] = [
    ({"solver": "lbfgs", "C": 1.0, "tol": 1e-4}, "KeyError"),
    ({"solver": "lbfgs", "C": "1", "tol": 1e-4, "max_iter": 9}, "C is '1', expected a number"),
    ({"solver": "lbfgs", "C": -1.0, "tol": 1e-4, "max_iter": 9}, "C is -1"),
    ({"solver": "sgd", "weight_decay": 0.0, "n_samples": 0}, "n_samples is 0"),
]


@pytest.mark.parametrize(("how", "message"), HOW)
def test_broken_settings_are_refused(how: Any, message: str, tmp_path: Path) -> None:
    model = cs.SoftmaxRegression(2, 2)
    model.trained_with = how
    model.save(tmp_path / "m")
    with pytest.raises(DataError, match=f"trained_with does not fit a classifier: .*{message}"):
        SoftmaxClassifier.load(tmp_path / "m")
    model.trained_with = {}
    model.save(tmp_path / "m")
    _rewritten(tmp_path / "m", lambda d: d.update(trained_with=3))
    with pytest.raises(DataError, match="trained_with 3, not a table of settings"):
        cs.SoftmaxRegression.load(tmp_path / "m")


def test_labels_that_cannot_be_saved(tmp_path: Path) -> None:
    X, y = small(2)
    classifier = SoftmaxClassifier().fit(X, y)
    classifier.classes_ = np.array([(1, 2), None], object)
    with pytest.raises(TypeError, match=r"the class \(1, 2\) is a tuple of dtype object, expected"):
        classifier.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(NotFittedError):
        SoftmaxClassifier().save(tmp_path / "model")


# ---- settings and versions ---------------------------------------------------------------------


@pytest.mark.parametrize("through", ["SoftmaxClassifier", "SoftmaxClassifierCV"])
def test_settings_of_numpy_survive_a_file(through: str, tmp_path: Path) -> None:
    X, y = IRIS
    shared: dict[str, Any] = {
        "tol": np.float32(1e-3), "fit_intercept": np.bool_(True), "max_iter": np.int64(100),
        "class_weight": dict(zip(np.unique(y), np.float32([1, 2, 0.5]), strict=True)),
        "n_threads": np.int16(1), "max_memory": np.float64(1e9),
    }  # fmt: skip
    own: dict[str, Any] = {
        "C": np.float32(0.1), "l1_ratio": np.float32(0.0), "random_state": np.int64(3),
        "solver": np.str_("lbfgs"),
        "warm_start": np.bool_(False), "batch_size": np.uint8(64),
        "learning_rate": np.float16(0.5), "momentum": Fraction(1, 2),
        "early_stopping": np.bool_(True), "validation_fraction": np.float32(0.25),
        "n_iter_no_change": np.int64(4), "verbose": np.int64(0),
    }  # fmt: skip
    path = tmp_path / "model"
    if through == "SoftmaxClassifier":
        classifier = SoftmaxClassifier(**shared, **own)
        assert set(classifier.get_params()) == {*shared, *own}
        classifier.fit(X, y).save(path)
    else:
        own = {}
        cs.SoftmaxClassifierCV(Cs=[0.1, 1.0], cv=2, **shared).fit(X, y).save(path)
    loaded = SoftmaxClassifier.load(path)
    kinds = (bool, int, float, str, dict)
    for name, value in {**shared, **own}.items():
        assert getattr(loaded, name) == value, name
        assert type(getattr(loaded, name)) in kinds, name
    assert all(type(label) is int for label in loaded.class_weight)
    np.testing.assert_array_equal(loaded.set_params(C=1.0).fit(X, y).classes_, [0, 1, 2])


@pytest.mark.parametrize("kind", [SoftmaxClassifier, cs.SoftmaxClassifierCV])
def test_pickles_of_another_version_warn(kind: Any, monkeypatch: Any) -> None:
    X, y = IRIS
    classifier = kind(tol=1e-3).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(classifier))
        copy.deepcopy(classifier)
    monkeypatch.setattr("csoftmax.estimators.base.__version__", "0.0.7")
    old = pickle.dumps(classifier)
    monkeypatch.undo()
    message = f"a {kind.__name__} of csoftmax 0.0.7 was unpickled by csoftmax {cs.__version__}"
    with pytest.warns(VersionWarning, match=message) as caught:
        other = pickle.loads(old)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(other.coef_, classifier.coef_)
    # whatever it is saved as next is of this version
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(other))


def test_pickles_that_lack_a_setting_get_its_default() -> None:
    state = SoftmaxClassifier(C=0.5).fit(*IRIS).__getstate__()
    for name in ("_csoftmax_version", "momentum", "max_memory"):
        del state[name]
    other = SoftmaxClassifier.__new__(SoftmaxClassifier)
    with pytest.warns(VersionWarning, match="of csoftmax unknown"):
        other.__setstate__(state)
    assert other.get_params() == SoftmaxClassifier(C=0.5).get_params()
    other.fit(*IRIS)
