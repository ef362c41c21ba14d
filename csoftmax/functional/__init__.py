"""The compiled functions: validate, allocate, call.

NumPy arrays in, NumPy arrays out. Each has its readable twin in `csoftmax.reference`, which gives
the formulas line by line; here they run on blocks of rows in compiled code, on `n_threads` threads
(None: all CPUs that this process may use) with bitwise the same result for any number of them.

`X` is read as it is stored (bool, uint8, float16, float32, float64, any strides and byte order); no
float copy of it is made. The compute type is float32, or float64 where any argument needs it.
Given a `Parameter`, linear, softmax and cross_entropy are recorded for ``backward``.
"""

from __future__ import annotations

from csoftmax.functional.of_features import (
    linear,
    linear_cross_entropy,
    linear_cross_entropy_grad,
    linear_evaluate,
)
from csoftmax.functional.of_logits import (
    cross_entropy,
    log_softmax,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
)

__all__ = [
    "cross_entropy",
    "linear",
    "linear_cross_entropy",
    "linear_cross_entropy_grad",
    "linear_evaluate",
    "log_softmax",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_grad",
]
