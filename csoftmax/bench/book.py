"""The book's own programs, on either library: ``python -m csoftmax bench --book``.

One epoch each. A program is written once and runs with csoftmax's names or with PyTorch's, as for a
reader who changes the import alone. "batches in memory": both are handed the same batches in the
same order; "own loader": each draws them, csoftmax from pixels as `d2l.load_data_fashion_mnist`
does, PyTorch from tensors that are ready. What csoftmax compiles whole is measured beside.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from csoftmax import SGD, DataLoader, Dataset, SoftmaxRegression, reference
from csoftmax.bench import peers
from csoftmax.bench.measure import TOLERANCE, Side, alternate, check, on_cpus
from csoftmax.bench.peers import Task
from csoftmax.bench.results import OURS, Result
from csoftmax.bench.session import Session
from csoftmax.bench.work import image_task
from csoftmax.books import d2l, d2l1
from csoftmax.books import torch as own_torch
from csoftmax.core.cpus import usable_cpus

LEARNING_RATE = 0.1
# A loader draws an order of its own: another loss, by 2 % in the few batches of the sample.
OTHER_ORDER_TOLERANCE = 0.1
PYTORCH = peers.label("torch")

Epoch = Callable[[], float]  # its mean loss; the accuracy is counted too, as in the book
Program = Callable[[Any, Iterable[Any], Task], Epoch]


# ---- the programs --------------------------------------------------------------------------------


def from_scratch(torch: Any, batches: Iterable[Any], task: Task) -> Epoch:
    """Return an epoch of the program that section 3.6 has its readers write."""
    W = torch.tensor(task.W, requires_grad=True)
    b = torch.tensor(task.b, requires_grad=True)

    def softmax(X: Any) -> Any:
        exponentials = torch.exp(X)
        return exponentials / exponentials.sum(1, keepdim=True)

    def net(X: Any) -> Any:
        return softmax(torch.matmul(X.reshape((-1, W.shape[0])), W) + b)

    def cross_entropy(y_hat: Any, y: Any) -> Any:
        return -torch.log(y_hat[range(len(y_hat)), y])

    def sgd(batch_size: int) -> None:
        with torch.no_grad():
            for parameter in (W, b):
                parameter -= LEARNING_RATE * parameter.grad / batch_size
                parameter.grad.zero_()

    def epoch() -> float:
        loss = correct = seen = 0.0
        for X, y in batches:
            y_hat = net(X)
            losses = cross_entropy(y_hat, y)
            losses.sum().backward()
            sgd(len(y))
            loss += float(losses.detach().sum())
            correct += n_right(y_hat, y)
            seen += len(y)
        return loss / seen

    return epoch


def n_right(y_hat: Any, y: Any) -> float:
    """Return how many of a batch are right, as the book counts them."""
    return float((y_hat.argmax(axis=1).type(y.dtype) == y).type(y.dtype).sum())


def concise(torch: Any, batches: Iterable[Any], task: Task) -> Epoch:
    """Return an epoch of the program of section 3.7, made of layers, a loss and an optimizer."""
    nn = torch.nn
    net = nn.Sequential(nn.Flatten(), nn.Linear(*task.W.shape))
    with torch.no_grad():
        net[1].weight[:] = torch.tensor(np.ascontiguousarray(task.W.T))
        net[1].bias[:] = torch.tensor(task.b)
    cross_entropy = nn.CrossEntropyLoss(reduction="none")
    trainer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)

    def epoch() -> float:
        loss = correct = seen = 0.0
        for X, y in batches:
            y_hat = net(X)
            losses = cross_entropy(y_hat, y)
            trainer.zero_grad()
            losses.mean().backward()
            trainer.step()
            loss += float(losses.detach().sum())
            correct += n_right(y_hat, y)
            seen += len(y)
        return loss / seen

    return epoch


def compiled_ch3(loader: DataLoader, task: Task) -> Epoch:
    """Return an epoch of section 3.6's training function, with csoftmax's model and optimizer."""
    model = SoftmaxRegression(*task.W.shape, scale=task.scale, seed=0)
    model.W, model.b = task.W, task.b
    updater = SGD(lr=LEARNING_RATE)
    return lambda: d2l.train_epoch_ch3(model, loader, d2l.cross_entropy, updater)[0]


class InLoader(d2l1.DataModule):
    """Data to train on, and none to validate on."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__()
        self.loader = loader

    def get_dataloader(self, train: bool) -> Any:
        """Return the loader of the data to train on."""
        return self.loader if train else None


def compiled_fit(loader: DataLoader, task: Task) -> Epoch:
    """Return an epoch of the current edition's trainer, with its own model."""
    model = d2l1.SoftmaxRegression(num_outputs=task.W.shape[1], lr=LEARNING_RATE)
    model.board.display = False
    trainer, data = d2l1.Trainer(max_epochs=1), InLoader(loader)

    def epoch() -> float:
        model.board.data.clear()
        trainer.fit(model, data)
        return float(np.mean([point.y for point in model.board.data["train_loss"]]))

    return epoch


# ---- what they are given -------------------------------------------------------------------------


def batches_in_memory(torch: Any, task: Task) -> list[Any]:
    """Return the batches of an epoch, in the order of the data."""
    X, y = task.matrix.reshape(-1, 1, 28, 28), task.y
    starts = range(0, len(X), task.batch_size)
    cuts = [slice(start, start + task.batch_size) for start in starts]
    return [(torch.from_numpy(X[cut]), torch.from_numpy(y[cut])) for cut in cuts]


def own_loader(torch: Any, task: Task) -> Any:
    """Return the library's own loader, which shuffles."""
    data: Any
    if torch is own_torch:
        data = Dataset(task.X.reshape(-1, 28, 28), task.y, task.scale)
    else:
        images = torch.from_numpy(task.matrix).reshape(-1, 1, 28, 28)
        data = torch.utils.data.TensorDataset(images, torch.from_numpy(task.y))
    return torch.utils.data.DataLoader(data, task.batch_size, shuffle=True)


# ---- the races -----------------------------------------------------------------------------------


def all_book(session: Session) -> Iterator[tuple[str, Callable[[], Iterator[Result]]]]:
    """Yield the name of each measurement and what runs it."""
    for title, program in (("from scratch", from_scratch), ("concise", concise)):
        for given in (batches_in_memory, own_loader):
            name = f"book/{title}, {given.__name__.replace('_', ' ')}"
            yield name, functools.partial(both, session, name, program, given)
    for name, whole in (("train_epoch_ch3", compiled_ch3), ("Trainer.fit", compiled_fit)):
        name = f"book/{name}, compiled"
        yield name, functools.partial(compiled, session, name, whole)


def both(
    session: Session, name: str, program: Program, given: Callable[[Any, Task], Iterable[Any]]
) -> Iterator[Result]:
    """Run one program with both libraries, in turn."""
    task = image_task(session.quick, "uint8")
    sides = {OURS: program(own_torch, given(own_torch, task), task)}
    if (torch := pytorch(session)) is not None:
        sides[PYTORCH] = program(torch, given(torch, task), task)
    in_order = given is batches_in_memory
    yield from race(session, name, task, sides, TOLERANCE if in_order else OTHER_ORDER_TOLERANCE)


def compiled(
    session: Session, name: str, program: Callable[[DataLoader, Task], Epoch]
) -> Iterator[Result]:
    """Run a compiled epoch, and beside it what a reader would have without it."""
    task = image_task(session.quick, "uint8")
    sides = {
        OURS: program(own_loader(own_torch, task), task),
        "from scratch": from_scratch(own_torch, own_loader(own_torch, task), task),
    }
    if (torch := pytorch(session)) is not None:
        sides[f"{PYTORCH} concise"] = concise(torch, own_loader(torch, task), task)
    yield from race(session, name, task, sides, OTHER_ORDER_TOLERANCE)


def race(
    session: Session, name: str, task: Task, epochs: dict[str, Epoch], tolerance: float
) -> Iterator[Result]:
    """Check the loss of each side's first epoch against the reference's, then time them in turn."""
    expected = reference.sgd_epoch(
        task.X, task.y, task.W.copy(), task.b.copy(), None, task.batch_size, LEARNING_RATE,
        scale=task.scale,
    )[0]  # fmt: skip
    pinned = functools.partial(threads_of, pytorch(session))
    sides = [Side(side, run, pinned, tolerance=tolerance) for side, run in epochs.items()]
    for side in sides:
        check(side, expected, session.threads[-1])
    for threads in session.threads:
        samples = alternate(sides, session.rounds, threads)
        ours = samples[OURS].median
        facts = {f"{k} by medians": v.median / ours for k, v in samples.items() if k != OURS}
        yield Result(name, threads, samples, facts=facts)


def pytorch(session: Session) -> Any:
    """Return PyTorch's module if it is to take part and is installed; else None."""
    if "torch" not in session.peers:
        return None
    if not peers.is_installed("torch"):
        session.missing["torch"] = "not installed, so csoftmax ran alone (pip install torch)"
        return None
    return peers.make("torch").torch


@contextlib.contextmanager
def threads_of(torch: Any, n: int) -> Iterator[None]:
    """Give both libraries n CPUs and n threads; csoftmax's tape takes as many as it has CPUs."""
    before = torch.get_num_threads() if torch else n
    try:
        with on_cpus(n):
            usable_cpus.cache_clear()
            if torch:
                torch.set_num_threads(n)
            yield
    finally:
        usable_cpus.cache_clear()
        if torch:
            torch.set_num_threads(before)
