"""The second edition's blocks beside PyTorch: the same programs from the same weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from book_cells import cells_of
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax import d2l

torch = pytest.importorskip("torch")

Names = dict[str, Any]


def torch_sgd(params: Any, lr: float, batch_size: int) -> None:
    with torch.no_grad():
        for param in params:
            param.sub_(lr * param.grad / batch_size)
            param.grad.zero_()


# the book's library on PyTorch, as far as these blocks ask for it
TORCH_D2L = SimpleNamespace(
    argmax=lambda x, axis: x.argmax(axis),
    astype=lambda x, dtype: x.type(dtype),
    exp=torch.exp,
    log=torch.log,
    matmul=torch.matmul,
    normal=torch.normal,
    reduce_sum=lambda x, *axis, **options: x.sum(*axis, **options),
    reshape=lambda x, shape: x.reshape(shape),
    sgd=torch_sgd,
    size=lambda x: x.numel(),
    tensor=torch.tensor,
    use_svg_display=d2l.use_svg_display,
)
LIBRARIES = {
    "csoftmax": {"torch": d2l.torch, "d2l": d2l, "nn": d2l.nn},
    "torch": {"torch": torch, "d2l": TORCH_D2L, "nn": torch.nn},
}


def batches(library: str, dtype: Any, n: int = 6000) -> list[tuple[Any, Any]]:
    """Return minibatches of 256 images and labels."""
    train, _ = cs.fashion_mnist_sample()
    loader = cs.DataLoader(train.X[:n], train.y[:n], 256, scale=train.scale)
    make = LIBRARIES[library]["torch"].tensor
    return [(make(X.astype(dtype)), make(y)) for X, y in loader]


def run(section: str, library: str, without: tuple[str, ...], **names: Any) -> Names:
    """Run the blocks of a section, but for those whose titles begin so; return what they made."""
    made = {**LIBRARIES[library], **names}
    for cell in cells_of(section, "second"):
        if not cell.startswith(tuple("# " + title for title in without)):
            exec(cell, made)
    return made


def from_scratch(library: str, dtype: Any, section: str = "scratch") -> Names:
    """Return the functions of the program from scratch, and its parameters at their start.

    Those that another section defines anew take the place of the first.
    """
    names = run(
        "scratch", library,
        ("the libraries", "the data", "about one", "training", "what it says", "the update,"),
    )  # fmt: skip
    if section != "scratch":
        names = run(section, library, ("the libraries", "what is learned"), **names)
    start = np.random.default_rng(0).normal(0, 0.01, (784, 10)).astype(dtype)
    tensor = names["torch"].tensor
    names["W"] = tensor(start, requires_grad=True)
    names["b"] = tensor(np.zeros(10, dtype), requires_grad=True)
    return names


def epoch(names: Names, net: Any, loss: Any, updater: Any, data: Any) -> list[float]:
    """Train for an epoch by the reader's own loop; return its figures, then every batch's loss."""
    seen = []

    def seen_loss(y_hat: Any, y: Any) -> Any:
        losses = loss(y_hat, y)
        seen.append(float(losses.detach().sum()))
        return losses

    return [*names["train_epoch_ch3"](net, data, seen_loss, updater), *seen]


@pytest.mark.parametrize("section", ["scratch", "rendered"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-6), (np.float64, 1e-13)])
def test_an_epoch_from_scratch_is_pytorchs(dtype: Any, rtol: float, section: str) -> None:
    results, weights = [], []
    for library in LIBRARIES:
        names = from_scratch(library, dtype, section)
        results.append(
            epoch(names, names["net"], names["cross_entropy"], names["updater"],
                  batches(library, dtype))
        )  # fmt: skip
        data = batches(library, dtype, 600)
        results[-1].append(names["evaluate_accuracy"](names["net"], data))
        weights += [names["W"].detach().numpy(), names["b"].detach().numpy()]
    assert_allclose(results[0], results[1], rtol=rtol)
    assert weights[0].dtype == weights[2].dtype == dtype
    for own, theirs in zip(weights[:2], weights[2:], strict=True):
        assert_allclose(own, theirs, atol=rtol)


def test_a_concise_epoch_is_pytorchs() -> None:
    results, weights = [], []
    for library in LIBRARIES:
        names = run("concise", library, ("the libraries", "the data", "training"))
        net, tensor = names["net"], names["torch"].tensor
        with names["torch"].no_grad():
            net[1].weight[...] = tensor(np.random.default_rng(1).normal(0, 0.01, (10, 784)))
            net[1].bias[...] = 0
        loop, data = from_scratch(library, np.float32), batches(library, np.float32)
        results.append(epoch(loop, net, names["loss"], names["trainer"], data))
        weights += [net[1].weight.detach().numpy(), net[1].bias.detach().numpy()]
    assert_allclose(results[0], results[1], rtol=1e-6)
    for own, theirs in zip(weights[:2], weights[2:], strict=True):
        assert_allclose(own, theirs, atol=1e-6)


EXERCISES = (
    "overflowed", "impossible", "gradient_of_impossible", "probabilities", "repaired",
    "gradient_of_repaired", "by_library", "gradient_by_library", "clipped", "gradient_of_clipped",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*encountered in")
def test_exercises_overflow_and_are_repaired_as_in_pytorch() -> None:
    own, theirs = (run("exercises", library, ("the libraries",)) for library in LIBRARIES)
    for name in EXERCISES:
        values = own[name].detach().numpy(), theirs[name].detach().numpy()
        assert_allclose(*values, rtol=1e-6, atol=1e-37, err_msg=name)
    assert np.isnan(own["overflowed"][0, 0])
    assert_array_equal(own["impossible"][:2], [np.nan, np.inf])
    assert np.isfinite(own["gradient_of_repaired"]).all()
