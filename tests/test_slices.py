"""Training in slices: the bits of `train`, and what one can do between two slices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from training_cases import GOOD_DATA, ordered, state_of, synthetic

import csoftmax as cs

RULES: list[dict[str, Any]] = [
    {}, {"momentum": 0.9}, {"weight_decay": 1e-3},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3, "bias_lr": 0.02},
]  # fmt: skip
DENSE = synthetic(203, 9, 3)
SPARSE = cs.Dataset(
    scipy.sparse.csr_array(np.where(DENSE.X % 3 == 0, DENSE.X, 0)), DENSE.y, DENSE.scale
)


def both(data: cs.Dataset, slices: int, shuffle: bool = True, **rule: Any) -> list[Any]:
    """Train by `train` and by slices; return model, optimizer and what came back of each."""
    results = []
    for way in ("train", "slices"):
        model, optimizer = cs.SoftmaxRegression(9, 3, seed=1), cs.SGD(0.1, **rule)
        loader = cs.DataLoader.from_dataset(data, 16, shuffle=shuffle, seed=2)
        if way == "train":
            came: Any = cs.train(model, loader, validation=DENSE, epochs=3, optimizer=optimizer)
        else:
            came = list(cs.train_slices(
                model, loader, validation=DENSE, epochs=3, slices=slices, optimizer=optimizer
            ))  # fmt: skip
        results.append((model, optimizer, came))
    return results


@pytest.mark.parametrize("slices", [1, 4, 1000])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_model_has_the_bits_of_train(rule: dict[str, Any], slices: int) -> None:
    (model, optimizer, history), (other, sgd, parts) = both(DENSE, slices, **rule)
    assert state_of(model, optimizer) == state_of(other, sgd)
    assert model.trained_with == other.trained_with
    ends = [part for part in parts if part.of_epoch is not None]
    assert [part.epoch for part in ends] == [1, 2, 3]
    assert [part.validation.loss for part in ends] == history.validation_loss
    assert [part.of_epoch.accuracy for part in ends] == pytest.approx(history.train_accuracy)
    assert [part.of_epoch.loss for part in ends] == pytest.approx(history.train_loss, rel=1e-12)


def test_without_an_order_and_with_l1_too() -> None:
    for options in ({"shuffle": False}, {"l1": 1e-3}):
        (model, optimizer, _), (other, sgd, _) = both(DENSE, 5, **options)  # type: ignore[arg-type]
        assert state_of(model, optimizer) == state_of(other, sgd)


def test_sparse_rows_have_the_bits_where_steps_touch_nothing_else_and_else_to_rounding() -> None:
    (model, _, _), (other, _, _) = both(SPARSE, 4)
    assert state_of(model) == state_of(other)
    for rule in (*RULES[1:], {"l1": 1e-3}):
        (model, _, _), (other, _, _) = both(SPARSE, 4, **rule)
        np.testing.assert_allclose(model.W, other.W, rtol=1e-5, atol=1e-6)
        assert model.trained_with == other.trained_with


def test_a_slice_is_of_whole_minibatches_and_its_figures_are_its_own() -> None:
    model = cs.SoftmaxRegression(9, 3, seed=1)
    loader = cs.DataLoader.from_dataset(DENSE, 16)
    parts = list(cs.train_slices(model, loader, epochs=2, slices=4))
    assert [part.n_samples for part in parts] == [48, 48, 48, 59] * 2
    x = [48 / 203, 96 / 203, 144 / 203, 1.0]
    assert [part.x for part in parts] == [*x, *(1 + one for one in x)]
    assert [part.of_epoch is not None for part in parts] == [False, False, False, True] * 2
    assert {part.validation for part in parts} == {None}
    again = cs.SoftmaxRegression(9, 3, seed=1)
    alone = cs.DataLoader(DENSE.X[:48], DENSE.y[:48], 16, scale=DENSE.scale)
    history = cs.train(again, alone, epochs=1)
    assert (parts[0].loss, parts[0].accuracy) == (history.train_loss[0], history.train_accuracy[0])


def test_who_stops_asking_has_stopped_the_training_and_train_goes_on_from_there() -> None:
    model, other = (cs.SoftmaxRegression(9, 3, seed=1) for _ in range(2))
    parts = cs.train_slices(model, cs.DataLoader.from_dataset(DENSE, 16), epochs=9, slices=2)
    next(parts)
    before = state_of(model)
    assert model.trained_with["epochs"] == pytest.approx(96 / 203)
    parts.close()  # type: ignore[attr-defined]
    assert state_of(model) == before
    half = cs.DataLoader(DENSE.X[:96], DENSE.y[:96], 16, scale=DENSE.scale)
    cs.train(other, half, epochs=1)
    assert state_of(model) == state_of(other)


def test_the_optimizer_may_change_between_slices() -> None:
    model, optimizer = cs.SoftmaxRegression(9, 3, seed=1), cs.SGD(0.1)
    loader = cs.DataLoader.from_dataset(DENSE, 16)
    parts = cs.train_slices(model, loader, epochs=1, slices=2, optimizer=optimizer)
    next(parts)
    W = model.W.copy()
    optimizer.lr = 1e-30
    next(parts)
    np.testing.assert_array_equal(model.W, W)
    optimizer.lr = math.nan
    with pytest.raises(ValueError, match="lr"):
        next(cs.train_slices(model, DENSE, optimizer=optimizer))


def test_an_interrupted_slice_leaves_the_model_as_after_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, optimizer = cs.SoftmaxRegression(9, 3, seed=1), cs.SGD(0.1, momentum=0.9)
    loader = cs.DataLoader.from_dataset(DENSE, 16)
    parts = cs.train_slices(model, loader, slices=3, optimizer=optimizer)
    next(parts)
    before, facts = state_of(model, optimizer), model.trained_with

    def minibatches(*arguments: Any) -> Any:
        arguments[1].W[...] = 7
        raise KeyboardInterrupt

    monkeypatch.setattr("csoftmax.engine.calls.minibatches", minibatches)
    with pytest.raises(KeyboardInterrupt):
        next(parts)
    assert state_of(model, optimizer) == before
    assert model.trained_with == facts


def test_arguments_are_refused_by_the_call_and_not_by_the_first_slice() -> None:
    model = cs.SoftmaxRegression(6, 3, seed=1)
    before = state_of(model)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"slices": 0}, "slices"), ({"epochs": 0}, "epochs"), ({"validation": DENSE}, "features"),
        ({"optimizer": "sgd"}, "optimizer"), ({"n_threads": 0}, "n_threads"),
    ]  # fmt: skip
    for options, named in wrong:
        with pytest.raises((TypeError, ValueError), match=named):
            cs.train_slices(model, GOOD_DATA, **options)
    assert state_of(model) == before


def test_an_order_of_ones_own_is_cut_and_a_bad_one_is_refused() -> None:
    model, other = (cs.SoftmaxRegression(6, 3, seed=1) for _ in range(2))
    order = np.array([3, 3, 1, 49, 0, 7, 8, 9, 10, 11])
    parts = list(cs.train_slices(model, ordered(order), epochs=1, slices=2))
    assert [part.n_samples for part in parts] == [8, 2]
    cs.train(other, ordered(order), epochs=1)
    assert state_of(model) == state_of(other)
    for bad in (np.array([], np.int64), np.array([50]), np.array([-1])):
        with pytest.raises(ValueError, match="epoch"):
            next(cs.train_slices(model, ordered(bad), epochs=1))
