"""What the tree of sums costs a pass: with it, against one sum in the compute type.

    python -m benchmarks.tree [--rounds 20] [--threads 1] [--clock cpu]

Both are timed in turn (A, B, A, B), and what counts are the minima. "error" is the largest error of
dW against float64, as a share of the sum of what is added. On a machine that others use too,
`--threads 1 --clock cpu` counts the CPU's seconds of this process.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax import _kernels
from csoftmax.engine.local_passes import LocalPasses

Array = NDArray[Any]
# rows, features, classes, dtype
SHAPES = {
    "a table": (20_000, 10, 3, np.float32),
    "a long table": (1_000_000, 10, 3, np.float32),
    "embeddings": (200_000, 384, 10, np.float32),
    "embeddings, 100 classes": (50_000, 384, 100, np.float32),
    "large gradients": (20_000, 512, 1_000, np.float32),
}


def samples(name: str) -> tuple[Array, Array, int]:
    if name == "Fashion-MNIST":
        train, _ = cs.fashion_mnist()
        return train.X.reshape(len(train), -1), train.y.astype(np.int64), 10
    n_rows, n_features, n_classes, dtype = SHAPES[name]
    rng = np.random.default_rng(0)
    X = rng.normal(1, 1, (n_rows, n_features)).astype(dtype)
    return X, rng.integers(0, n_classes, n_rows), n_classes


def error_of(X: Array, y: Array, W: Array, dW: Array) -> float:
    """Return the largest error of a gradient as a share of the sum of sizes."""
    right, size = np.zeros(W.shape[1:]), np.zeros(W.shape[1:])
    for start in range(0, len(X), 4096):
        x = X[start : start + 4096].astype(np.float64)
        logits = x @ W[0].T.astype(np.float64)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(x)), y[start : start + 4096]] -= 1
        right += p.T @ x
        size += np.abs(p).T @ np.abs(x)
    return float((np.abs(dW[0] - right) / size).max())


def measure(name: str, rounds: int, n_threads: int, clock: Any) -> None:
    X, y, n_classes = samples(name)
    rng = np.random.default_rng(1)
    W = rng.normal(size=(1, n_classes, X.shape[1])).astype(np.float32)
    W /= np.sqrt(X.shape[1]) * float(np.abs(X[:1000]).max())
    b = np.zeros((1, n_classes), np.float32)
    passes, of_head = LocalPasses(X, y, n_classes, n_threads=n_threads), np.zeros(1, np.int64)
    sums = [(np.empty_like(W), np.empty_like(b)) for _ in range(2)]

    def tree() -> None:
        passes.evaluate(W, b, of_head, *sums[0])

    def one_sum() -> None:
        _kernels.row_pass(
            X, W, b.reshape(-1), 1.0, y=y, heads=1, gradient=sums[1], n_threads=n_threads
        )

    least = [np.inf, np.inf]
    for _ in range(rounds):
        for i, run in enumerate((tree, one_sum)):
            began = clock()
            run()
            least[i] = min(least[i], clock() - began)
    errors = [error_of(X, y, W, dW) for dW, _ in sums]
    print(
        f"{name:24}{least[0] / least[1]:6.3f} of one sum ({least[1] * 1e3:.2f} ms); "
        f"error {errors[0]:.1e}, of one sum {errors[1]:.1e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    given = parser.parse_args()
    clock = time.process_time if given.clock == "cpu" else time.perf_counter
    for name in ("Fashion-MNIST", *SHAPES):
        measure(name, given.rounds, given.threads, clock)


if __name__ == "__main__":
    main()
