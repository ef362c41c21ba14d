"""The sums that a solver is given, against formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from cases import make_case
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from csoftmax.engine import local_passes
from csoftmax.engine.local_passes import LocalPasses
from csoftmax.engine.targets import mass_of_classes, moments_of_targets

Array = Any
RTOL = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}


def problem(dtype: Any, n: int = 300, f: int = 20, k: int = 4) -> tuple[Array, ...]:
    """X, labels, probabilities, three rows of weights with zeros, W and b of two heads, scale."""
    X, _, _, y, _, scale = make_case(dtype, n, f, k)
    rng = np.random.default_rng(7)
    weights = rng.uniform(0.5, 2, (3, n)) * (rng.uniform(size=(3, n)) > 0.3)
    t = np.float64 if np.dtype(dtype).itemsize == 8 else np.float32
    W, b = rng.normal(size=(2, k, f)).astype(t) / np.sqrt(f), rng.normal(size=(2, k)).astype(t)
    return X, y, rng.dirichlet(np.ones(k), n), weights, W.astype(t), b, scale


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64, np.int64])
def test_sums_of_heads(isa: str, dtype: Any, weighted: bool, soft: bool) -> None:
    X, y, p, weights, W, b, scale = problem(dtype)
    target = p if soft else y
    rows = LocalPasses(
        X, target, 4, weights=weights if weighted else None, scale=scale, n_threads=2
    )
    of_head = np.array([2, 0]) if weighted else np.array([0, 0])
    dW, db = np.empty_like(W), np.empty_like(b)
    sums = rows.evaluate(W, b, of_head, dW, db)
    onehot = p if soft else np.eye(4)[y]
    for h, r in enumerate(of_head):
        s = weights[r] if weighted else np.ones(len(X))
        logits = oracle.linear(X, W[h].T, b[h], scale, np.float64)
        log_p = oracle.log_softmax(logits)
        dlogits = s[:, None] * (np.exp(log_p) - onehot)
        size = np.abs(dlogits).sum()
        assert_allclose(sums.losses[h], -(s @ (onehot * log_p).sum(axis=1)), rtol=RTOL[rows.dtype])
        tolerance: Any = {"rtol": 0, "atol": RTOL[rows.dtype] * size}
        assert_allclose(dW[h], scale * (dlogits.T @ X.astype(np.float64)), **tolerance)
        assert_allclose(db[h], dlogits.sum(axis=0), **tolerance)
        assert sums.n_correct[h] == (logits.argmax(axis=1) == onehot.argmax(axis=1)).sum()


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
def test_a_head_has_its_bits_in_any_company(soft: bool) -> None:
    X, y, p, weights, W, b, scale = problem(np.float32)
    of_head, bits = np.array([1, 2]), []
    for n_threads in (1, 3):
        rows = LocalPasses(
            X, p if soft else y, 4, weights=weights, scale=scale, n_threads=n_threads
        )
        dW, db = np.empty_like(W), np.empty_like(b)
        bits.append((*rows.evaluate(W, b, of_head, dW, db), dW, db))
        alone = [
            rows.evaluate(W[[h]], b[[h]], of_head[[h]], dW[h : h + 1], db[h : h + 1])
            for h in range(2)
        ]
        bits.append((*map(np.concatenate, zip(*alone, strict=True)), dW, db))
    for others in bits[1:]:
        for mine, theirs in zip(bits[0], others, strict=True):
            assert_array_equal(mine, theirs)


def feature_sums(passes: LocalPasses) -> NDArray[np.float64]:
    b = np.zeros((passes.n_weights, passes.n_classes), passes.dtype)
    return passes.null_sums(b, True).feature_sums


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float16, np.float32, np.float64, ">f4"])
def test_moments(isa: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    X, y = (100 * rng.uniform(size=(2500, 7))).astype(dtype), rng.integers(0, 3, 2500)
    weights = rng.uniform(size=(2, 2500)) * (rng.uniform(size=(2, 2500)) > 0.5)
    wide = X.astype(np.float64)
    error = 1e-14 if np.dtype(dtype).itemsize == 8 else 3e-7
    passes = LocalPasses(X, y, 4, scale=0.5)
    got = moments_of_targets(y, None, 4)
    assert_array_equal(got.totals, [2500])
    assert_array_equal(got.n_counting, [2500])
    assert_array_equal(got.mass, [[(y == k).sum() for k in range(4)]])
    assert_allclose(feature_sums(passes), [0.5 * wide.sum(axis=0)], rtol=error)
    passes = LocalPasses(X, y, 4, weights=weights, scale=0.5)
    got = moments_of_targets(y, weights, 4)
    assert_allclose(got.totals, weights.sum(axis=1), rtol=1e-15)
    assert_array_equal(got.n_counting, (weights > 0).sum(axis=1))
    assert_allclose(got.mass, [[w[y == k].sum() for k in range(4)] for w in weights], rtol=1e-13)
    assert_allclose(feature_sums(passes), 0.5 * (weights @ wide), rtol=error)


def test_sums_of_features_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_passes, "ALONE_BYTES", 0)
    X, y = np.random.default_rng(4).normal(3, 1, (9000, 5)).astype(np.float32), np.zeros(9000, int)
    first, second = (feature_sums(LocalPasses(X, y, 2, n_threads=n)) for n in (1, 4))
    assert_array_equal(first, second)


def test_sums_of_a_row_of_weights_have_their_bits_in_any_company() -> None:
    X, y, _, weights, _, _, scale = problem(np.float32)
    together = feature_sums(LocalPasses(X, y, 4, weights=weights, scale=scale))
    for r in range(3):
        alone = feature_sums(LocalPasses(X, y, 4, weights=weights[[r]], scale=scale))
        assert_array_equal(alone[0], together[r])
        for mine, theirs in zip(
            moments_of_targets(y, weights[[r]], 4), moments_of_targets(y, weights, 4), strict=True
        ):
            assert_array_equal(mine[0], theirs[r])


def test_rows_of_weight_0_may_hold_anything() -> None:
    X, y, _, weights, _, _, scale = problem(np.float32)
    weights[:, 17] = 0
    clean = LocalPasses(X, y, 4, weights=weights, scale=scale)
    dirty = X.copy()
    dirty[17] = np.nan
    rows = LocalPasses(dirty, y, 4, weights=weights, scale=scale)
    assert_array_equal(feature_sums(rows), feature_sums(clean))
    dirty[18, 3] = np.inf
    with pytest.raises(ValueError, match=r"^X\[18, 3\] is inf, expected finite numbers$"):
        feature_sums(rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 1023, 2047, 2999])
def test_what_is_not_finite_is_named(at: int, bad: float) -> None:
    X = np.ones((3000, 3), np.float16)
    X[at, 1] = bad
    with pytest.raises(ValueError, match=rf"^X\[{at}, 1\] is {bad}, expected finite numbers$"):
        feature_sums(LocalPasses(X, np.zeros(3000, int), 2))


def test_sums_that_overflow_are_named() -> None:
    X = np.ones((3000, 3), np.float32)
    X[:, 2] = -3e37
    with pytest.raises(ValueError, match="overflow float32: column 2 has values up to 3e"):
        feature_sums(LocalPasses(X, np.zeros(3000, int), 2))


def test_samples() -> None:
    X, y, p, weights, _, _, scale = problem(np.float32)
    rows = LocalPasses(X, p, 4, weights=weights, scale=scale, n_threads=2)
    counting = np.flatnonzero(weights[1])
    every = rows.sample(1, len(counting), seed=0)
    assert_array_equal(every.rows.X, X[counting])
    assert_array_equal(every.target, p[counting])
    assert_array_equal(every.weights, [weights[1, counting]])
    assert (every.scale, every.n_threads, every.n_classes) == (scale, 2, 4)
    some, again, other = rows.sample(1, 50, 0), rows.sample(1, 50, 0), rows.sample(1, 50, 1)
    assert some.n_rows == 50
    assert some.fingerprint() == again.fingerprint() != other.fingerprint()
    numbers = [int(np.flatnonzero((x == X).all(axis=1))[0]) for x in some.rows.X]
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= set(counting.tolist())
    plain = LocalPasses(X, y, 4)
    assert plain.sample(0, 300, 0).rows.X is X
    assert plain.sample(0, 299, 0).weights is None


def test_fingerprints() -> None:
    X, y, p, weights, _, _, scale = problem(np.float32)
    same = [LocalPasses(X.copy(), y, 4, weights=weights, scale=scale, n_threads=n) for n in (1, 2)]
    others = [
        LocalPasses(-X, y, 4, weights=weights, scale=scale),
        LocalPasses(X, y[::-1], 4, weights=weights, scale=scale),
        LocalPasses(X, p, 4, weights=weights, scale=scale),
        LocalPasses(X, y, 5, weights=weights, scale=scale),
        LocalPasses(X, y, 4, weights=weights[::-1], scale=scale),
        LocalPasses(X, y, 4, scale=scale),
        LocalPasses(X, y, 4, weights=weights, scale=2 * scale),
    ]
    assert same[0].fingerprint() == same[1].fingerprint()
    assert len({each.fingerprint() for each in (same[0], *others)}) == len(others) + 1


def test_mass_of_classes() -> None:
    p, weight = np.array([[0.5, 0.5, 0.0], [0.25, 0.0, 0.75]]), np.array([2.0, 4.0])
    assert_array_equal(mass_of_classes(np.array([2, 0]), None, 4), [1, 0, 1, 0])
    assert_array_equal(mass_of_classes(np.array([2, 0]), weight, 3), [4, 0, 2])
    assert_array_equal(mass_of_classes(p, None, 3), [0.75, 0.5, 0.75])
    assert_array_equal(mass_of_classes(p, weight, 3), [2, 1, 3])
