"""Minibatches of sparse rows against the eager loop over rows with their zeros."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sparse_cases import filled, sparse_table

import csoftmax as cs
from csoftmax import _kernels, reference
from csoftmax.core.sparse import CSR
from csoftmax.engine import calls

Array = Any

# (learning_rate, momentum, nesterov, weight_decay), the rate of the bias, l1
RULES: dict[str, tuple[tuple[float, float, bool, float], float | None, float]] = {
    "plain": ((0.2, 0.0, False, 0.0), None, 0.0),
    "decay": ((0.2, 0.0, False, 0.05), 0.02, 0.0),
    "momentum": ((0.2, 0.9, False, 0.0), None, 0.0),
    "all": ((0.1, 0.8, True, 0.05), 0.0, 0.0),
    "l1": ((0.2, 0.0, False, 0.0), None, 0.03),
    "elastic": ((0.2, 0.0, False, 0.05), None, 0.02),
    "decay past zero": ((0.5, 0.0, False, 3.0), None, 0.02),  # each step turns the signs
}


class Epoch:
    """An epoch over part of the rows, some of weight 0."""

    def __init__(self, stored: Any, n: int, d: int, k: int, batch_rows: int, **how: Any) -> None:
        random = np.random.default_rng([n, d, k])
        self.dtype: Any = np.float64 if stored == np.float64 else np.float32
        self.table = sparse_table(stored, n, d, share=0.05, **how)
        self.X = CSR(*self.table, d)
        self.W, self.b = random.normal(size=(d, k)).astype(self.dtype), np.zeros(k, self.dtype)
        self.velocity = np.full((d, k), 0.1, self.dtype), np.full(k, -0.1, self.dtype)
        self.y, self.weight = random.integers(0, k, n), random.uniform(0, 2, n)
        self.weight[::5] = 0
        self.order = random.permutation(n)[: n - n // 8]
        self.batch_rows, self.scale = batch_rows, 1 / 255 if stored == np.uint8 else 0.5

    def run(self, rule: str, n_threads: int = 1) -> dict[str, Array]:
        (rate, momentum, nesterov, decay), bias_rate, l1 = RULES[rule]
        W, b = np.array(self.W.T, order="C"), self.b.copy()
        vW, vb = np.array(self.velocity[0].T, order="C"), self.velocity[1].copy()
        velocities = (vW, vb) if momentum else (None, None)
        sums = calls.minibatches(
            calls.StoredRows(self.X, self.scale, self.order), calls.Parameters(W, b),
            calls.Targets(self.y, self.weight),
            calls.Step(rate, momentum, nesterov, decay, *velocities, bias_rate, l1),
            self.batch_rows, n_threads,
        )  # fmt: skip
        return {"W": W.T, "b": b, "vW": vW.T, "vb": vb, "sums": np.array(sums)}

    def eager(self, rule: str) -> dict[str, Array]:
        """The plain loop, in float64."""
        (rate, momentum, nesterov, decay), bias_rate, l1 = RULES[rule]
        X = filled(self.table, len(self.W), np.float64)
        W, b = self.W.astype(np.float64), self.b.astype(np.float64)
        vW, vb = (v.astype(np.float64) for v in self.velocity)
        loss, accuracy = reference.sgd_epoch(
            X, self.y, W, b, self.order, self.batch_rows, rate, scale=self.scale,
            momentum=momentum, nesterov=nesterov, weight_decay=decay, bias_lr=bias_rate, l1=l1,
            sample_weight=self.weight, velocity=(vW, vb),
        )  # fmt: skip
        sums = np.array([loss, accuracy]) * len(self.order)
        return {"W": W, "b": b, "vW": vW, "vb": vb, "sums": sums}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stored", [np.uint8, np.float32, np.float64])
def test_lazy_updates_are_the_eager_ones(isa: str, stored: Any, rule: str) -> None:
    for shape, how in (
        ((150, 300, 5, 16), {}),
        ((190, 200, 33, 70), {"index": np.int64}),
        ((60, 90, 1, 1000), {}),
    ):
        epoch = Epoch(stored, *shape, **how)
        got, expected = epoch.run(rule), epoch.eager(rule)
        tolerance = 1e-12 if epoch.dtype == np.float64 else 2e-5
        for name, right in expected.items():
            assert_allclose(got[name], right, rtol=tolerance, atol=tolerance, err_msg=name)
        if RULES[rule][2] > 0 and shape[2] > 1:  # zeros are zeros, not small numbers
            zero = got["W"] == 0
            assert zero.any()
            assert not zero.all()
            assert (zero == (expected["W"] == 0)).mean() > 0.999


@pytest.mark.usefixtures("free_threads")
@pytest.mark.parametrize("rule", ["plain", "all", "elastic"])
def test_any_number_of_threads_gives_the_same_bits(isa: str, rule: str) -> None:
    epoch = Epoch(np.float32, 1500, 700, 20, 300)
    one = epoch.run(rule)
    for n_threads in (2, 3, 8, 64):
        for name, found in epoch.run(rule, n_threads).items():
            assert_array_equal(found, one[name], err_msg=f"{name}, {n_threads} threads")


def test_the_order_of_the_features_in_a_row_only_rounds() -> None:
    epoch = Epoch(np.float64, 100, 60, 4, 8)
    one = epoch.run("all")
    values, indices, indptr = (array.copy() for array in epoch.table)
    for i in range(100):
        row = slice(indptr[i], indptr[i + 1])
        values[row], indices[row] = values[row][::-1].copy(), indices[row][::-1].copy()
    epoch.X = CSR(values, indices, indptr, 60)
    for name, found in epoch.run("all").items():
        assert_allclose(found, one[name], rtol=1e-12, atol=1e-12)


def test_rows_of_weight_0_move_nothing_whatever_they_hold(isa: str) -> None:
    epoch = Epoch(np.float32, 100, 60, 4, 8)
    clean = epoch.run("plain")
    values, _, indptr = epoch.table
    for i in range(0, 100, 5):
        values[indptr[i] : indptr[i + 1]] = np.nan
    for name, found in epoch.run("plain").items():
        if name != "sums":
            assert_array_equal(found, clean[name])


def test_a_weight_that_is_nan_stays_nan(isa: str) -> None:
    epoch = Epoch(np.float32, 50, 40, 3, 8)
    unseen = np.setdiff1d(np.arange(40), epoch.table[1])[0]
    epoch.W[unseen, 1] = np.nan
    W = epoch.run("elastic")["W"]
    assert np.isnan(W[unseen, 1])
    assert np.isnan(W).sum() == 1


@pytest.mark.parametrize("rule", ["plain", "all"])
def test_an_epoch_of_rows_without_entries(rule: str) -> None:
    epoch = Epoch(np.float32, 40, 30, 3, 8)
    epoch.table = np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(41, np.int32)
    epoch.X = CSR(*epoch.table, 30)
    got, expected = epoch.run(rule), epoch.eager(rule)
    for name, right in expected.items():
        assert_allclose(got[name], right, rtol=2e-5, atol=2e-5)


# ---- refusals ------------------------------------------------------------------------------------

SGD = (0.1, 0.0, False, 0.0, None, None)
D, K = 30, 3


def arguments() -> dict[str, Any]:
    table = sparse_table(np.float32, 20, D)
    return {
        "rows": _kernels.SparseRows(*table, D), "W": np.zeros((K, D), np.float32),
        "b": np.zeros(K, np.float32), "scale": 1.0, "y": np.zeros(20, np.int64), "sgd": SGD,
        "batch_rows": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"W": np.zeros((K, D - 1), np.float32)},
        {"W": np.zeros((K, D))},
        {"W": np.zeros((D, K), np.float32).T},
        {"b": np.zeros(0, np.float32)},
        {"y": np.zeros(19, np.int64)},
        {"y": np.zeros(20, np.int32)},
        {"batch_rows": 0},
        {"batch_rows": -1},
        {"order": np.array([0, 20])},
        {"order": np.array([-1])},
        {"order": np.zeros(0, np.int64)},
        {"order": np.zeros(3, np.int32)},
        {"sample_weight": np.ones(19)},
        {"sample_weight": np.ones(20, np.float32)},
        {"sgd": (0.1, 0.9, False, 0.0)},
        {"sgd": (0.1, 0.9, False, 0.0, np.zeros((K, D), np.float32), None)},
        {"sgd": (0.1, 0.9, False, 0.0, np.zeros((K, D)), np.zeros(K))},
        {
            "sgd": (0.1, 0.9, False, 0.0, np.zeros((K, D), np.float32), np.zeros(K, np.float32)),
            "l1": 0.1,
        },
    ],
)
def test_wrong_buffers_are_refused(wrong: dict[str, Any]) -> None:
    _kernels.sparse_minibatches(**arguments())
    with pytest.raises((TypeError, ValueError, BufferError)):
        _kernels.sparse_minibatches(**{**arguments(), **wrong})


def test_l1_needs_no_momentum() -> None:
    with pytest.raises(ValueError, match=r"l1 is 0\.1 and momentum is 0\.9, expected one of 0"):
        cs.SGD(0.1, momentum=0.9, l1=0.1)
    with pytest.raises(ValueError, match=r"l1 is -1\.0, expected at least 0"):
        cs.SGD(0.1, l1=-1)


def test_a_copied_optimizer_keeps_its_l1() -> None:
    optimizer = cs.SGD(0.1, l1=0.25)
    for other in (copy.copy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert other.l1 == 0.25
