"""scikit-learn's own tests of its logistic regression, run against these estimators.

They come from the installed scikit-learn. What they call is replaced by the two classes below,
which take scikit-learn's settings. Left out are those that ask for what csoftmax has no use for:
one-against-rest (`liblinear`, private methods), the deprecated `penalty`, attributes of older
forms, names of solvers in error messages, and the refusal of 64-bit indices.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.utils.fixes import CSR_CONTAINERS

from csoftmax.estimators import SoftmaxClassifier, SoftmaxClassifierCV

theirs = pytest.importorskip("sklearn.linear_model.tests.test_logistic")
if "l1_ratios_" not in inspect.getsource(theirs):
    pytest.skip("this scikit-learn's tests are of the older attributes", allow_module_level=True)


class LogisticRegression(SoftmaxClassifier):
    """`SoftmaxClassifier` with scikit-learn's solvers, all of which are one here."""

    def __init__(
        self, *, C: float = 1.0, l1_ratio: float = 0.0, tol: float = 1e-4, max_iter: int = 100,
        fit_intercept: bool = True, class_weight: Any = None, random_state: Any = None,
        solver: str = "lbfgs", warm_start: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            C=C, l1_ratio=l1_ratio, tol=tol, max_iter=max_iter, fit_intercept=fit_intercept,
            class_weight=class_weight, random_state=random_state, warm_start=warm_start,
        )  # fmt: skip
        self.solver = solver

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        solver, tol = self.solver, self.tol
        # their tolerances are of gradients, and tests of objectives count on what saga has left
        self.solver, self.tol = "auto", min(tol, 1e-8)
        try:
            super().fit(X, y, sample_weight)
        finally:
            self.solver, self.tol = solver, tol
        return self


class LogisticRegressionCV(SoftmaxClassifierCV):
    def __init__(
        self, *, Cs: Any = 10, l1_ratios: Any = (0.0,), cv: Any = 5, scoring: Any = None,
        tol: float = 1e-4, max_iter: int = 100, fit_intercept: bool = True,
        class_weight: Any = None, refit: bool = True, random_state: Any = None,
        solver: str = "lbfgs", use_legacy_attributes: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            Cs=Cs, l1_ratios=l1_ratios, cv=cv, scoring=scoring, tol=tol, max_iter=max_iter,
            fit_intercept=fit_intercept, class_weight=class_weight, refit=refit,
            random_state=random_state,
        )  # fmt: skip
        self.solver, self.use_legacy_attributes = solver, use_legacy_attributes


C4 = np.logspace(-3, 2, 4)
SEEDED = [{"global_random_seed": seed} for seed in (0, 42)]
CSR = [{"csr_container": container} for container in CSR_CONTAINERS]


def each(*lists: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all combinations of the arguments."""
    found: list[dict[str, Any]] = [{}]
    for some in lists:
        found = [{**a, **b} for a in found for b in some]
    return found


def values(name: str, *given: Any) -> list[dict[str, Any]]:
    return [{name: value} for value in given]


CASES: dict[str, list[dict[str, Any]]] = {
    "test_predict_2_classes": CSR,
    "test_predict_3_classes": CSR,
    "test_sparsify": values("coo_container", *theirs.COO_CONTAINERS),
    "test_inconsistent_input": [{}],
    "test_nan": [{}],
    "test_multinomial_logistic_regression_string_inputs": [{}],
    "test_logistic_cv_sparse": each(SEEDED[:1], values("solver", "saga"), CSR),
    "test_logistic_cv": each(SEEDED, values("use_legacy_attributes", False)),
    "test_logistic_cv_refit_false_non_elasticnet": SEEDED,
    "test_logistic_regression_class_weights": each(SEEDED, CSR),
    "test_logistic_regression_cv_refit": each(SEEDED, values("l1_ratio", 0, 1)),
    "test_dtype_match": each(values("solver", "saga"), values("fit_intercept", True, False), CSR),
    "test_elastic_net_coeffs": SEEDED,
    "test_elastic_net_vs_l1_l2": values("C", 0.001, 1, 100, 1e6),
    "test_LogisticRegression_elastic_net_objective": each(
        values("C", *C4), values("l1_ratio", 0.1, 0.5, 0.9)
    ),
    "test_LogisticRegressionCV_GridSearchCV_elastic_net": values("n_classes", 2, 3),
    "test_elastic_net_versus_sgd": each(
        SEEDED[:1], values("C", *C4[:2]), values("l1_ratio", 0.1, 0.9)
    ),
    "test_multinomial_identifiability_on_iris": each(
        values("solver", "lbfgs"), values("fit_intercept", True, False)
    ),
    "test_sample_weight_not_modified": values(
        "class_weight", {0: 1.0, 1: 10.0, 2: 1.0}, "balanced"
    ),
    "test_large_sparse_matrix": each(values("solver", "lbfgs"), CSR),
}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [(name, arguments) for name, several in CASES.items() for arguments in several],
)
def test_of_scikit_learn(name: str, arguments: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(theirs, "LogisticRegression", LogisticRegression)
    monkeypatch.setattr(theirs, "LogisticRegressionCV", LogisticRegressionCV)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(theirs, name)(**arguments)
