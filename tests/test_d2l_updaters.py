"""The second edition's names beyond functions and updaters: optimizers, layers, what draws."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import csoftmax as cs
from csoftmax import d2l
from csoftmax.books import fused
from csoftmax.d2l import nn, torch

TRAIN, TEST = cs.fashion_mnist_sample()


def loader(n: int = 300, **options: Any) -> Any:
    return torch.utils.data.DataLoader(cs.Dataset(TRAIN.X[:n], TRAIN.y[:n], 1 / 255), 32, **options)


def concise(**options: Any) -> tuple[Any, Any, Any]:
    """Return section 3.7's net, the same each time, its loss and its optimizer."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    return (
        net,
        nn.CrossEntropyLoss(reduction="none"),
        torch.optim.SGD(net.parameters(), lr=0.1, **options),
    )


def test_a_concise_epoch_in_compiled_code_is_that_of_the_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    train = fused.train
    monkeypatch.setattr(fused, "train", lambda *args: calls.append(args) or train(*args))
    results = []
    for make_loss in (lambda loss: loss, lambda loss: lambda y_hat, y: loss(y_hat, y)):
        net, loss, trainer = concise()
        torch.manual_seed(2)
        results.append(
            (net, d2l.train_epoch_ch3(net, loader(shuffle=True), make_loss(loss), trainer))
        )
    assert len(calls) == 1  # a loss of the reader's is called, batch by batch
    (fast, of_fast), (slow, of_slow) = results
    assert_allclose(of_fast, of_slow, rtol=1e-6)
    assert_allclose(fast[1].weight, slow[1].weight, atol=1e-6)
    assert_allclose(fast[1].bias, slow[1].bias, atol=1e-6)


@pytest.mark.parametrize("case", ["momentum", "layers", "batches", "subclass", "patched"])
def test_what_is_not_plain_goes_by_steps(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "train", lambda *args: pytest.fail("compiled"))
    net, loss, trainer = concise(momentum=0.5 if case == "momentum" else 0.0)
    data = loader()
    if case == "layers":
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.Linear(12, 10))
        trainer = torch.optim.SGD(net.parameters(), lr=0.1)
    elif case == "batches":
        data = list(data)
    elif case == "subclass":
        loss = type("Own", (nn.CrossEntropyLoss,), {"forward": lambda self, y_hat, y: y_hat[:, 0]})(
            reduction="none"
        )
    elif case == "patched":
        net[1].forward = lambda X: nn.Linear.forward(net[1], X)
    before = np.array(net[1].weight)
    mean_loss, accuracy = d2l.train_epoch_ch3(net, data, loss, trainer)
    assert np.isfinite(mean_loss)
    assert 0 <= accuracy <= 1
    assert not np.array_equal(before, net[1].weight)


def test_an_optimizer_of_one_s_own_is_an_updater() -> None:
    """Anything that has zero_grad and step; the gradients are those of the mean loss."""
    W = cs.Parameter(np.zeros((784, 10)))
    seen = []

    class Watcher:
        def zero_grad(self) -> None:
            W.grad = None

        def step(self) -> None:
            seen.append(np.array(W.grad))

    (X, y), *_ = batches = list(loader(64))
    d2l.train_epoch_ch3(
        lambda X: X.reshape(len(X), 784) @ W,
        batches,
        nn.CrossEntropyLoss(reduction="none"),
        Watcher(),
    )
    assert len(seen) == 2
    _, dW, _ = cs.linear_cross_entropy_grad(X.reshape(32, 784), W, np.zeros(10), y)
    assert_allclose(seen[0], dW, atol=1e-7)


def test_nets_are_told_of_training_and_evaluation_and_evaluation_records_nothing() -> None:
    net, loss, trainer = concise()
    modes: list[tuple[bool, bool]] = []

    def watched(X: Any) -> Any:
        logits = nn.Sequential.forward(net, X)
        modes.append((net.training, logits.requires_grad))
        return logits

    net.forward = watched
    data = list(loader(32))
    net.eval()
    d2l.train_epoch_ch3(net, data, loss, trainer)
    d2l.evaluate_accuracy(net, data)
    d2l.evaluate_loss(net, data, loss)
    d2l.predict_ch3(net, data, 2)
    assert modes == [(True, True), (False, False), (False, False), (False, False)]


def test_mixtures_that_do_not_go_together() -> None:
    net, loss, trainer = concise()
    data = loader(64)
    with pytest.raises(ValueError, match=r'one number, expected one for each.*reduction="none"'):
        d2l.train_epoch_ch3(net, data, nn.CrossEntropyLoss(), trainer)
    with pytest.raises(TypeError, match="updater is a float, expected a function of the batch siz"):
        d2l.train_epoch_ch3(net, data, loss, 0.1)
    with pytest.raises(ValueError, match="train_iter has no batches"):
        d2l.train_epoch_ch3(net, loader(0), loss, trainer)
    small = nn.Sequential(nn.Flatten(), nn.Linear(4, 10))
    trainer = torch.optim.SGD(small.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="images have 784 pixels but the layer takes 4"):
        d2l.train_epoch_ch3(small, data, loss, trainer)


def test_ten_epochs_hold_no_more_than_one() -> None:
    """Without the help of the garbage collector: what was recorded for a step goes with it."""
    W = torch.normal(0, 0.01, (784, 10), requires_grad=True)
    b = torch.zeros(10, requires_grad=True)

    def net(X: Any) -> Any:
        powers = d2l.exp(d2l.matmul(d2l.reshape(X, (-1, 784)), W) + b)
        return powers / d2l.reduce_sum(powers, 1, keepdim=True)

    def epoch() -> int:
        d2l.train_epoch_ch3(
            net, loader(), lambda y_hat, y: -d2l.log(y_hat[range(len(y_hat)), y]),
            lambda n: d2l.sgd([W, b], 0.1, n),
        )  # fmt: skip
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    gc.disable()
    try:
        after = [epoch() for _ in range(10)]
    finally:
        gc.enable()
        tracemalloc.stop()
    assert after[-1] - after[0] < 32 * 784 * 4  # the pixels of a batch


def test_names_that_draw() -> None:
    from matplotlib import pyplot

    assert d2l.plt is pyplot
    with pytest.raises(AttributeError, match="csoftmax's d2l has no plot_: it has what"):
        d2l.plot_  # noqa: B018
    _, axes = d2l.plt.subplots()
    axes.plot([1, 10], [0.5, 5])
    d2l.set_axes(axes, "epoch", "loss", [1, 10], [0.1, 9], "linear", "log", ["train"])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")
    assert (axes.get_xlim(), axes.get_ylim()) == ((1, 10), (0.1, 9))
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train"]
    assert axes.xaxis.get_gridlines()[0].get_visible()
    d2l.set_axes(axes, None, None, None, None, "linear", "linear", None)
    assert axes.get_xlabel() == ""
    d2l.plt.close()


def test_a_reader_s_pictures_without_ipython() -> None:
    program = """
import sys
sys.modules["IPython"] = None
from csoftmax import d2l
d2l.use_svg_display()
d2l.display.display("figure")
d2l.display.clear_output(wait=True)
print("matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
