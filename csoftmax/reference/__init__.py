r"""Softmax regression in plain NumPy: every function of csoftmax, formula by formula.

Read this page first. The compiled functions of the same names promise these results; the tests
compare the two, and the benchmarks measure the one against the other.

Throughout, ``i`` counts samples, ``j`` features and ``k`` classes:

- ``X`` (n_samples, n_features) are the features, ``W`` (n_features, n_classes) the weights and
  ``b`` (n_classes,) the bias, as in *Dive into Deep Learning* (D2L), section "Softmax Regression";
- ``logits = scale * X @ W + b`` (n_samples, n_classes) is what the linear layer says;
- ``p[i, k] = exp(logits[i, k]) / sum_c exp(logits[i, c])`` turns it into probabilities;
- ``loss[i] = -log p[i, y[i]]``, in nats, is the price of the true label ``y[i]``;
- ``dlogits = p - onehot(y)`` is the loss's gradient, from which ``dW = scale * X.T @ dlogits`` and
  ``db = sum_i dlogits[i]`` follow.

Small input types are computed in float32; float64 and wide integers in float64. Sums of losses are
float64. Parameters, special values and errors are described once, at the compiled functions: a twin
lacks their `out` and `n_threads` alone.

Sources: D2L, sections "Softmax Regression", "Softmax Regression Implementation from Scratch" and
"Concise Implementation of Softmax Regression" ("Softmax Revisited"); label smoothing: Szegedy et
al. 2016, "Rethinking the Inception Architecture", section 7.

The modules: `formulas`, which the others share; `of_logits` and `of_features`, as the compiled
functions stand in `csoftmax.functional`; `training`, an epoch of minibatches.
"""

from csoftmax.reference.of_features import (
    linear,
    linear_cross_entropy,
    linear_cross_entropy_grad,
    linear_evaluate,
)
from csoftmax.reference.of_logits import (
    cross_entropy,
    log_softmax,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
)
from csoftmax.reference.training import sgd_epoch

__all__ = [
    "cross_entropy",
    "linear",
    "linear_cross_entropy",
    "linear_cross_entropy_grad",
    "linear_evaluate",
    "log_softmax",
    "sgd_epoch",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_grad",
]
