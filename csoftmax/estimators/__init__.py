"""Estimators for scikit-learn: `SoftmaxClassifier`, and one that chooses its own C."""

from csoftmax.estimators.base import Gap, VersionWarning
from csoftmax.estimators.classifier import SoftmaxClassifier
from csoftmax.estimators.cv import SoftmaxClassifierCV
from csoftmax.estimators.fit import ConvergenceWarning
from csoftmax.estimators.inputs import MemoryBudgetError
from csoftmax.estimators.shard_folds import ShardKFold

__all__ = [
    "ConvergenceWarning",
    "Gap",
    "MemoryBudgetError",
    "ShardKFold",
    "SoftmaxClassifier",
    "SoftmaxClassifierCV",
    "VersionWarning",
]
