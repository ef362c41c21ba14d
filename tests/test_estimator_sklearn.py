"""`SoftmaxClassifier` among scikit-learn's parts, and the package without scikit-learn."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from estimator_cases import IRIS, small
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import csoftmax as cs
from csoftmax.estimators import SoftmaxClassifier, SoftmaxClassifierCV


def test_pipeline_grid_search_and_pandas_output() -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    pipeline = make_pipeline(StandardScaler(), SoftmaxClassifier()).set_output(transform="pandas")
    assert cross_val_score(pipeline, X, y).mean() > 0.9
    assert pipeline.fit(X, y)[-1].feature_names_in_.tolist() == X.columns.tolist()
    search = GridSearchCV(pipeline, {"softmaxclassifier__C": [1e-3, 1.0]}, n_jobs=2).fit(X, y)
    assert search.best_params_ == {"softmaxclassifier__C": 1.0}


def test_sample_weight_is_routed() -> None:
    X, y = IRIS
    weight = np.where(y == 0, 0.1, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = SoftmaxClassifier().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), classifier)
        routed = pipeline.fit(X, y, sample_weight=weight)[-1]
    direct = SoftmaxClassifier().fit(StandardScaler().fit_transform(X), y, weight)
    np.testing.assert_array_equal(routed.coef_, direct.coef_)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_from_and_to_logistic_regression(n_classes: int, fit_intercept: bool) -> None:
    X, y = small(n_classes)
    names = np.array(["a", "b", "c"])[y]
    theirs = LogisticRegression(C=0.2, fit_intercept=fit_intercept, warm_start=True).fit(X, names)
    ours = SoftmaxClassifier.from_sklearn(theirs)
    assert (ours.C, ours.fit_intercept, ours.warm_start) == (0.2, fit_intercept, True)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-12)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    back = ours.to_sklearn()
    np.testing.assert_allclose(back.predict_proba(X), theirs.predict_proba(X), atol=1e-12)
    assert back.get_params()["C"] == 0.2
    again = SoftmaxClassifier.from_sklearn(back)
    warm = again.fit(X, names).n_iter_[0]
    assert warm <= 1 < again.set_params(warm_start=False).fit(X, names).n_iter_[0]


def test_to_logistic_regression_from_pixels(pixels: Any) -> None:
    X, y, X_test, _ = pixels
    ours = SoftmaxClassifier(C=1e-6).fit(X, y)
    theirs = ours.to_sklearn()
    assert theirs.n_features_in_ == 784
    assert np.abs(theirs.predict_proba(X_test) - ours.predict_proba(X_test)).max() < 1e-6
    np.testing.assert_array_equal(theirs.classes_, ours.classes_)


def test_from_other_logistic_regressions() -> None:
    X, y = small(3)
    frame = pd.DataFrame(X, columns=list("abcd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = LogisticRegressionCV(Cs=3, cv=2).fit(frame, y)
        unpenalised = LogisticRegression(C=math.inf).fit(X, y).sparsify()
    assert np.ravel(chosen.C_)[0] == SoftmaxClassifier.from_sklearn(chosen).C
    assert SoftmaxClassifier.from_sklearn(chosen).feature_names_in_.tolist() == list("abcd")
    assert math.inf == SoftmaxClassifier.from_sklearn(unpenalised).C
    assert SoftmaxClassifier.from_sklearn(chosen).to_sklearn().feature_names_in_.tolist() == list(
        "abcd"
    )
    with pytest.raises(TypeError, match="classifier is a Ridge, expected a LogisticRegression"):
        SoftmaxClassifier.from_sklearn(Ridge())
    chosen.solver = "liblinear"
    with pytest.raises(ValueError, match="one-against-rest"):
        SoftmaxClassifier.from_sklearn(chosen)


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_the_package_imports_without_scikit_learn() -> None:
    hide = "import sys; sys.modules['sklearn'] = None; sys.modules['scipy'] = None\n"
    done = run(f"{hide}from csoftmax import *\nimport csoftmax\nprint(dir(csoftmax))")
    assert done.returncode == 0, done.stderr
    assert "SoftmaxClassifierCV" in done.stdout
    for name in ("SoftmaxClassifier", "SoftmaxClassifierCV"):
        done = run(f"{hide}import csoftmax\ncsoftmax.{name}")
        last = done.stderr.strip().splitlines()[-1]
        assert last == (
            f"ImportError: csoftmax.{name} needs scikit-learn: pip install 'csoftmax[sklearn]'"
        )


def test_the_names_are_those_of_the_modules() -> None:
    assert cs.SoftmaxClassifier is SoftmaxClassifier
    assert cs.SoftmaxClassifierCV is SoftmaxClassifierCV
