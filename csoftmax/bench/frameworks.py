"""PyTorch and JAX, each in the form that its own users would call fast."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from csoftmax.bench.book import LEARNING_RATE, OTHER_ORDER_TOLERANCE, from_scratch, own_loader
from csoftmax.bench.measure import Side, on_cpus
from csoftmax.bench.peers import Task
from csoftmax.engine.calls import shuffle


class PyTorch:
    """Tensors in memory that share NumPy's; no DataLoader except in the book's loop."""

    name = "PyTorch"

    def __init__(self) -> None:
        self.torch: Any = import_module("torch")
        self.functional: Any = import_module("torch.nn.functional")

    @contextlib.contextmanager
    def pinned(self, n: int) -> Iterator[None]:
        before = self.torch.get_num_threads()
        self.torch.set_num_threads(n)
        try:
            yield
        finally:
            self.torch.set_num_threads(before)

    def _side(self, run: Any, name: str = name, **options: Any) -> Side:
        return Side(name, run, self.pinned, **options)

    def _layer(self, p: Task) -> Any:
        layer = self.torch.nn.Linear(*p.W.shape)
        with self.torch.no_grad():
            layer.weight.copy_(self.torch.from_numpy(np.ascontiguousarray(p.W.T)))
            layer.bias.copy_(self.torch.from_numpy(p.b))
        return layer

    def epoch(self, p: Task) -> Side:
        torch, cross_entropy = self.torch, self.functional.cross_entropy
        X, y, layer = torch.from_numpy(p.matrix), torch.from_numpy(p.y), self._layer(p)
        optimizer = torch.optim.SGD(layer.parameters(), lr=LEARNING_RATE)
        random = np.random.default_rng(0)

        def run() -> float:
            total = torch.zeros(())
            order = shuffle(np.arange(len(X)), random)
            for rows in torch.from_numpy(order).split(p.batch_size):
                loss = cross_entropy(layer(X.index_select(0, rows)), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
            return float(total) / len(X)

        return self._side(run)

    def epoch_of_the_book(self, p: Task) -> Side:
        """The from-scratch program, with a DataLoader, counting accuracy."""
        run = from_scratch(self.torch, own_loader(self.torch, p), p)
        return self._side(run, "PyTorch, the book's loop", tolerance=OTHER_ORDER_TOLERANCE)

    def loss_and_gradient(self, p: Task) -> Side:
        torch, cross_entropy = self.torch, self.functional.cross_entropy
        X, y, layer = torch.from_numpy(p.matrix), torch.from_numpy(p.y), self._layer(p)

        def run() -> tuple[float, Any]:
            layer.zero_grad()
            loss = cross_entropy(layer(X), y)
            loss.backward()
            return loss.item(), layer.weight.grad.T

        return self._side(run)

    def linear(self, p: Task) -> Side:
        torch, X, layer = self.torch, self.torch.from_numpy(p.matrix), self._layer(p)
        W, b, out = layer.weight.detach().T, layer.bias.detach(), torch.empty(len(p.X), len(p.b))
        return self._side(lambda: torch.addmm(b, X, W, out=out))

    def softmax(self, p: Task) -> Side:
        X = self.torch.from_numpy(p.X)
        softmax, out = self.torch.softmax, self.torch.empty_like(X)
        return self._side(lambda: softmax(X, 1, out=out))

    def log_softmax(self, p: Task) -> Side:
        X = self.torch.from_numpy(p.X)
        log_softmax, out = self.torch.log_softmax, self.torch.empty_like(X)
        return self._side(lambda: log_softmax(X, 1, out=out))

    def softmax_cross_entropy_grad(self, p: Task) -> Side:
        cross_entropy, y = self.functional.cross_entropy, self.torch.from_numpy(p.y)
        logits = self.torch.from_numpy(p.X).requires_grad_()

        def run() -> tuple[float, Any]:
            logits.grad = None
            loss = cross_entropy(logits, y)
            loss.backward()
            return loss.item(), logits.grad

        return self._side(run)

    def predict(self, p: Task) -> Side:
        torch, linear = self.torch, self.functional.linear
        X, layer = torch.from_numpy(p.matrix), self._layer(p)
        W, b = layer.weight.detach(), layer.bias.detach()
        return self._side(lambda: linear(X, W, b).argmax(1))

    predict_one = predict

    def small_call(self, p: Task) -> Side:
        X, softmax = self.torch.from_numpy(p.X), self.torch.softmax
        return self._side(lambda: softmax(X, 1))


class JAX:
    """Everything under jit, the matrix on the device beforehand, the epoch one scan."""

    name = "JAX"

    def __init__(self) -> None:
        self.jax: Any = import_module("jax")
        self.jnp: Any = import_module("jax.numpy")

    def pinned(self, n: int) -> Any:
        return on_cpus(n)  # its thread pool is made once, as large as the machine

    def _side(self, run: Any) -> Side:
        return Side(self.name, run, self.pinned)

    def _mean_loss(self, parameters: Any, X: Any, y: Any) -> Any:
        W, b = parameters
        return self._cross_entropy(X @ W + b, y)

    def _cross_entropy(self, logits: Any, y: Any) -> Any:
        log_p = self.jax.nn.log_softmax(logits)
        return -self.jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

    def epoch(self, p: Task) -> Side:
        jax, jnp, n, size = self.jax, self.jnp, len(p.X), p.batch_size
        X, y = jax.device_put(p.matrix), jax.device_put(p.y.astype(np.int32))
        loss_and_gradient = jax.value_and_grad(self._mean_loss)

        def step(parameters: Any, rows: Any) -> Any:
            loss, gradients = loss_and_gradient(parameters, X[rows], y[rows])
            moved = [w - LEARNING_RATE * g for w, g in zip(parameters, gradients, strict=True)]
            return tuple(moved), loss * len(rows)

        full = n // size * size

        def all_batches(parameters: Any, order: Any) -> Any:
            batches = order[:full].reshape(-1, size)
            parameters, losses = jax.lax.scan(step, parameters, batches)
            total = losses.sum()
            if full < n:
                parameters, loss = step(parameters, order[full:])
                total += loss
            return parameters, total / n

        compiled = jax.jit(all_batches)
        random, state = np.random.default_rng(0), [(jnp.asarray(p.W), jnp.asarray(p.b))]

        def run() -> float:
            order = shuffle(np.arange(n), random).astype(np.int32)
            state[0], loss = jax.block_until_ready(compiled(state[0], order))
            return float(loss)

        return self._side(run)

    def loss_and_gradient(self, p: Task) -> Side:
        put = self.jax.device_put
        X, y, parameters = put(p.matrix), put(p.y.astype(np.int32)), (put(p.W), put(p.b))
        compiled = self.jax.jit(self.jax.value_and_grad(self._mean_loss))

        def run() -> tuple[Any, Any]:
            loss, (dW, _) = self.jax.block_until_ready(compiled(parameters, X, y))
            return loss, dW

        return self._side(run)

    def _of_logits(self, function: Any, *arrays: Any) -> Side:
        compiled, on_device = self.jax.jit(function), [self.jax.device_put(a) for a in arrays]
        return self._side(lambda: self.jax.block_until_ready(compiled(*on_device)))

    def linear(self, p: Task) -> Side:
        return self._of_logits(lambda X, W, b: X @ W + b, p.matrix, p.W, p.b)

    def softmax(self, p: Task) -> Side:
        return self._of_logits(self.jax.nn.softmax, p.X)

    def log_softmax(self, p: Task) -> Side:
        return self._of_logits(self.jax.nn.log_softmax, p.X)

    def softmax_cross_entropy_grad(self, p: Task) -> Side:
        function = self.jax.value_and_grad(self._cross_entropy)
        return self._of_logits(function, p.X, p.y.astype(np.int32))

    def predict(self, p: Task) -> Side:
        return self._of_logits(lambda X, W, b: (X @ W + b).argmax(1), p.matrix, p.W, p.b)
