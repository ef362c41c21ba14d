"""From epoch to epoch: velocities, callbacks, history, progress, and Ctrl-C."""

from __future__ import annotations

import copy
import csv
import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from training_cases import GOOD_DATA, OrderedLoader, state_of

import csoftmax as cs
from csoftmax import training


def test_copies_of_an_optimizer_start_without_velocities() -> None:
    model, optimizer = cs.SoftmaxRegression(6, 3, seed=0), cs.SGD(0.1, 0.9, True, 0.01)
    cs.train(model, GOOD_DATA, epochs=1, optimizer=optimizer)
    assert any(abs(v).max() > 0 for v in optimizer.velocities_of(model))
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert repr(other) == repr(optimizer)
        assert all(abs(v).max() == 0 for v in other.velocities_of(model))
    assert cs.SGD(0.1).velocities_of(model) == ()


def test_velocities_last_from_one_call_to_the_next_and_belong_to_one_model() -> None:
    def loader() -> cs.DataLoader:
        return cs.DataLoader.from_dataset(GOOD_DATA, 8)

    once, twice, other = (cs.SoftmaxRegression(6, 3, seed=0) for _ in range(3))
    cs.train(once, loader(), epochs=4, optimizer=cs.SGD(0.1, momentum=0.9))
    optimizer = cs.SGD(0.1, momentum=0.9)
    cs.train(twice, loader(), epochs=2, optimizer=optimizer)
    cs.train(other, loader(), epochs=4, optimizer=optimizer)
    cs.train(twice, loader(), epochs=2, optimizer=optimizer)
    assert state_of(once) == state_of(twice) == state_of(other)


def test_callbacks_see_every_epoch_and_can_stop() -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    seen: list[Any] = []

    def watch(given: cs.SoftmaxRegression, history: cs.History) -> str:
        assert given is model
        seen.append((len(history), history.train_loss[-1], history.validation_loss[-1]))
        return "not True"

    for stop in (lambda m, h: len(h) == 3, lambda m, h: np.bool_(len(h) == 3)):
        seen.clear()
        history = cs.train(
            model, GOOD_DATA, validation=GOOD_DATA, epochs=9, callbacks=iter([stop, watch])
        )
        assert len(history) == 3
        assert [entry[0] for entry in seen] == [1, 2, 3]
        assert [entry[1] for entry in seen] == history.train_loss
        assert [entry[2] for entry in seen] == history.validation_loss


def test_a_callback_may_change_the_learning_rate() -> None:
    def loader() -> cs.DataLoader:
        return cs.DataLoader.from_dataset(GOOD_DATA, 8)

    scheduled, plain = (cs.SoftmaxRegression(6, 3, seed=0) for _ in range(2))
    optimizer = cs.SGD(0.1)

    def halve(model: cs.SoftmaxRegression, history: cs.History) -> None:
        optimizer.lr /= 2

    cs.train(scheduled, loader(), epochs=2, optimizer=optimizer, callbacks=[halve])
    for lr in (0.1, 0.05):
        cs.train(plain, loader(), epochs=1, optimizer=cs.SGD(lr))
    assert state_of(scheduled) == state_of(plain)


def test_an_error_in_a_callback_goes_on_and_keeps_the_epoch() -> None:
    model, same = (cs.SoftmaxRegression(6, 3, seed=0) for _ in range(2))

    def fail(model: cs.SoftmaxRegression, history: cs.History) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        cs.train(model, cs.DataLoader.from_dataset(GOOD_DATA, 8), callbacks=[fail])
    cs.train(same, cs.DataLoader.from_dataset(GOOD_DATA, 8), epochs=1)
    assert state_of(model) == state_of(same)


def test_history_to_dict_and_csv(tmp_path: Path) -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    history = cs.train(model, GOOD_DATA, validation=GOOD_DATA, epochs=3)
    columns = history.to_dict()
    names = [
        "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy",
        "seconds", "samples_per_second",
    ]  # fmt: skip
    assert list(columns) == names
    assert columns["epoch"] == [1, 2, 3]
    assert columns["train_loss"] == history.train_loss
    assert columns["train_loss"] is not history.train_loss
    assert min(history.seconds) > 0
    assert_allclose(np.multiply(history.samples_per_second, history.seconds), 50)
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == names
    read = [[float(cell) for cell in row] for row in rows]
    assert read == [list(row) for row in zip(*columns.values(), strict=True)]

    cs.train(model, GOOD_DATA, epochs=1).to_csv(tmp_path / "history.csv")
    text = (tmp_path / "history.csv").read_text()
    assert text.splitlines()[0] == "epoch,train_loss,train_accuracy,seconds,samples_per_second"
    assert len(text.splitlines()) == 2
    cs.History().to_csv(tmp_path / "history.csv")
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1
    assert os.listdir(tmp_path) == ["history.csv"]


def test_validation_is_of_the_parameters_after_the_epoch() -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    found: list[float] = []

    def measure(model: cs.SoftmaxRegression, history: cs.History) -> None:
        metrics = cs.evaluate(model, GOOD_DATA)
        found.extend([metrics.loss, metrics.accuracy])

    history = cs.train(model, GOOD_DATA, validation=GOOD_DATA, epochs=2, callbacks=[measure])
    assert history.validation_loss == found[::2]
    assert history.validation_accuracy == found[1::2]


def test_progress_is_a_bar_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    for silent in (False, None):  # the captured stderr is no terminal
        cs.train(model, GOOD_DATA, epochs=2, progress=silent)
        assert capsys.readouterr() == ("", "")
    history = cs.train(model, GOOD_DATA, validation=GOOD_DATA, epochs=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err
    assert f"loss {history.validation_loss[-1]:.3f}" in err


@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_puts_the_last_finished_epoch_back(n_threads: int) -> None:
    """A long epoch, of rows that are read again and again, is left within a second of work."""
    rng = np.random.default_rng(0)
    data = cs.Dataset(
        rng.integers(0, 256, (2000, 784), dtype=np.uint8), rng.integers(0, 10, 2000), 0.5
    )
    loader = OrderedLoader(data.X, data.y, 256, scale=data.scale)
    model, optimizer = cs.SoftmaxRegression(784, 10, seed=0), cs.SGD(0.1, momentum=0.9)
    finished: list[Any] = []
    sent: list[float] = []

    def lengthen(model: cs.SoftmaxRegression, history: cs.History) -> None:
        model._scale = None  # the interrupted epoch takes one, and gives it back
        finished.append(state_of(model, optimizer))
        loader.order = rng.integers(0, 2000, 20_000_000)
        signal.setitimer(signal.ITIMER_REAL, 0.3)

    def interrupt(signum: int, frame: Any) -> None:
        sent.append(time.process_time())
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            cs.train(
                model, loader, epochs=2, optimizer=optimizer, callbacks=[lengthen],
                n_threads=n_threads,
            )  # fmt: skip
        answered = time.process_time() - sent[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert answered < 1
    assert [state_of(model, optimizer)] == finished
    assert model.scale == 1.0
    cs.train(model, data, epochs=1, optimizer=optimizer)  # and it can go on
    assert [state_of(model, optimizer)] != finished


def test_ctrl_c_while_validating_puts_the_last_finished_epoch_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train_set, test_set = cs.fashion_mnist_sample()
    model, optimizer = cs.SoftmaxRegression(784, 10, seed=0), cs.SGD(0.1, momentum=0.9)
    seen: list[Any] = []
    histories: list[cs.History] = []
    validate = training.evaluate_epoch

    def interrupted(*arguments: Any) -> Any:
        if len(seen) == 2:
            raise KeyboardInterrupt
        return validate(*arguments)

    def see(model: cs.SoftmaxRegression, history: cs.History) -> None:
        seen.append(state_of(model, optimizer))
        histories.append(history)

    monkeypatch.setattr(training, "evaluate_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cs.train(
            model, train_set, validation=test_set, epochs=5, optimizer=optimizer, callbacks=[see]
        )
    assert state_of(model, optimizer) == seen[1]
    assert {len(values) for values in vars(histories[0]).values()} == {2}
