"""The current edition's chapter, block by block: as a script, and in a notebook.

The blocks are those of book/current/*.py, written anew from what the sections do.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from book_runs import ON_THE_SAMPLE, WAYS, cells_of, run
from numpy.testing import assert_allclose

import csoftmax as cs
from csoftmax import d2l1 as d2l

SECTIONS = ("oo_design", "dataset", "classification", "scratch", "concise")

# what is told of each section, once its blocks have run
SEEN = {
    "oo_design": "a.b, b.hparams, board.data, type(board).__name__",
    "dataset": """len(data.train), len(data.val), data.train[0][0].shape, data.batch_size,
        X.shape, str(X.dtype), str(y.dtype), data.text_labels(batch[1][:2])""",
    "classification": """(
        Classifier().accuracy(d2l.tensor([[0.1, 0.9], [0.6, 0.4]]), d2l.tensor([1, 1])).item(),
        Classifier().accuracy(d2l.tensor([[0.1, 0.9], [0.6, 0.4]]), d2l.tensor([1, 1]), False))""",
    "scratch": """(
        d2l.reduce_sum(X_prob, 1), cross_entropy(y_hat, d2l.tensor([0, 2])).item(),
        model.hparams, model.board.data, trainer.path, len(labels), int(wrong.sum()), len(wrong),
        softmax(d2l.tensor([[0.0, 1.0]])))""",
    "concise": "model.board.data, trainer.path, list(model.net[1].weight.shape)",
}
TOLD = """
def told(value):
    if isinstance(value, dict):
        return {key: told(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [told(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
"""


# each way in one process of the test run, as its blocks take seconds
@pytest.fixture(
    scope="module",
    params=[pytest.param(way, marks=pytest.mark.xdist_group(f"current {way}")) for way in WAYS],
)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the blocks of each section made, all of them run in one process of their own."""
    cells = [ON_THE_SAMPLE, TOLD]
    for section in SECTIONS:
        cells += cells_of(section, "current")
        cells.append(f"print('SEEN', json.dumps(told(({SEEN[section]}))))")
    done = run(cells, request.param, tmp_path_factory.mktemp("current"))
    lines = [line[5:] for line in done.stdout.splitlines() if line.startswith("SEEN ")]
    results = dict(zip(SECTIONS, map(json.loads, lines), strict=True))
    return {**results, "stdout": done.stdout, "stderr": done.stderr}


def test_the_tools(seen: Any) -> None:
    attribute, kept, waves, board = seen["oo_design"]
    assert (attribute, kept, board) == (1, {"a": 1, "b": 2}, "ProgressBoard")
    assert "the attribute b is 1" in seen["stdout"]
    assert "c is left out: True" in seen["stdout"]
    x = np.arange(0, 10, 0.1)
    assert_allclose(waves["sin"], np.stack([x, np.sin(x)], 1).reshape(50, 2, 2).mean(axis=1))
    assert len(waves["cos"]) == 10


def test_the_data(seen: Any) -> None:
    *sizes, names = seen["dataset"]
    assert sizes == [6000, 1000, [1, 32, 32], 64, [48, 1, 32, 32], "float32", "int64"]
    assert names == ["ankle boot", "pullover"]
    assert "(64, 1, 32, 32) float32 (64,) int64" in seen["stdout"]


def test_the_classifier(seen: Any) -> None:
    assert seen["classification"] == [0.5, [1, 0]]


def test_a_program_from_scratch_learns(seen: Any) -> None:
    sums, loss, kept, lines, path, n_labels, n_wrong, n, softmax = seen["scratch"]
    assert_allclose(sums, [1, 1], rtol=1e-6)
    assert_allclose(loss, -(math.log(0.1) + math.log(0.5)) / 2, rtol=1e-6)
    assert_allclose(softmax, [[1 / (1 + math.e), math.e / (1 + math.e)]], rtol=1e-6)
    assert kept == {"num_inputs": 784, "num_outputs": 10, "lr": 0.1, "sigma": 0.01}
    assert path == "step by step: SoftmaxRegressionScratch is the reader's"
    assert (n, n_labels) == (256, n_wrong)
    assert 0 < n_wrong < 256 * 0.35
    learns(lines)


def test_the_concise_program_learns(seen: Any) -> None:
    lines, path, shape = seen["concise"]
    assert path == "step by step: SoftmaxRegression is the reader's"
    assert shape == [10, 784]
    learns(lines)


def learns(lines: dict[str, list[list[float]]]) -> None:
    """Do the lines on the board go as those of the sample do in ten epochs?"""
    losses, validation, accuracy = (
        np.array(lines[label]) for label in ("train_loss", "val_loss", "val_acc")
    )
    # of 24 batches an epoch, 12 a point: 20 points, at the middle of their batches
    assert_allclose(losses[:, 0], np.arange(20) / 2 + 5.5 / 24)
    assert losses[0, 1] > 1.2
    assert losses[-1, 1] < 0.7
    assert_allclose(accuracy[:, 0], np.arange(1, 11))
    assert validation[-1, 1] < 0.75
    assert accuracy[-1, 1] > 0.7


def test_nothing_is_told_on_the_way(seen: Any) -> None:
    assert seen["stderr"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("section", ["scratch", "concise"])
def test_the_book_s_figures(section: str, tmp_path: Path) -> None:
    """Training loss .446 and validation accuracy .836; at a constant rate the latter is noisy."""
    if not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("Fashion-MNIST is not installed here")
    report = "lines = model.board.data; print(json.dumps([lines['train_loss'], lines['val_acc']]))"
    done = run([*cells_of(section, "current"), report], "script", tmp_path)
    losses, accuracy = json.loads(done.stdout.splitlines()[-1])
    assert len(losses) == 20
    assert 0.44 < (losses[-1][1] + losses[-2][1]) / 2 < 0.455
    assert 0.8 < accuracy[-1][1] < 0.85


# ---------------------------------------------------------------- beside PyTorch


class Batches(d2l.DataModule):
    """The sample's minibatches, in their order."""

    def __init__(self) -> None:
        super().__init__()
        train, _ = cs.fashion_mnist_sample()
        loader = cs.DataLoader(train.X, train.y, 256, scale=train.scale)
        self.batches = [(cs.Tensor(X), cs.Tensor(y)) for X, y in loader]

    def get_dataloader(self, train: bool) -> Any:
        return self.batches if train else None


def losses_of(model: Any, data: Batches) -> list[float]:
    """Train for an epoch; return the loss of each batch."""
    model.plot_train_per_epoch = len(data.batches)
    d2l.Trainer(max_epochs=1).fit(model, data)
    return [point.y for point in model.board.data["train_loss"]]


def named_by(section: str, unwanted: tuple[str, ...]) -> dict[str, Any]:
    """Run the blocks of a section, but for those of these titles; return what they made."""
    names: dict[str, Any] = {}
    for cell in cells_of(section, "current"):
        if cell.splitlines()[0].removeprefix("# ") not in unwanted:
            exec(cell, names)
    return names


def test_an_epoch_from_scratch_is_pytorch_s() -> None:
    torch = pytest.importorskip("torch")
    unwanted = ("training", "what it says of a batch", "where it is wrong")
    names, data = named_by("scratch", unwanted), Batches()
    model = names["SoftmaxRegressionScratch"](784, 10, lr=0.1)
    W = torch.tensor(np.array(model.W), requires_grad=True)
    b = torch.zeros(10, requires_grad=True)
    expected = []
    for X, y in data.batches:
        powers = torch.exp(torch.from_numpy(np.asarray(X)).reshape(-1, 784) @ W + b)
        probabilities = powers / powers.sum(1, keepdim=True)
        loss = -torch.log(probabilities[range(len(y)), np.asarray(y)]).mean()
        loss.backward()
        with torch.no_grad():
            for parameter in (W, b):
                parameter -= 0.1 * parameter.grad
                parameter.grad.zero_()
        expected.append(loss.item())
    assert_allclose(losses_of(model, data), expected, rtol=1e-6)
    assert_allclose(model.W, W.detach().numpy(), atol=1e-6)


def test_a_concise_epoch_is_pytorch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(d2l.Classifier, "loss", d2l.Classifier.loss)  # undoes the section's own
    names, data = named_by("concise", ("training",)), Batches()
    model = names["SoftmaxRegression"](num_outputs=10, lr=0.1)
    model(data.batches[0][0])  # draws the weights
    layer = torch.nn.Linear(784, 10)
    with torch.no_grad():
        for own, theirs in zip(model.parameters(), layer.parameters(), strict=True):
            theirs[...] = torch.from_numpy(np.asarray(own))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    expected = []
    for X, y in data.batches:
        logits = layer(torch.from_numpy(np.asarray(X)).flatten(1))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(np.asarray(y)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert_allclose(losses_of(model, data), expected, rtol=1e-6)
    assert_allclose(model.net[1].weight, layer.weight.detach().numpy(), atol=1e-6)
