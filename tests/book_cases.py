"""Small images for the tests of the current edition's classes."""

from __future__ import annotations

from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax import d2l1 as d2l

N_CLASSES = 3


class Images(d2l.DataModule):
    """Pixels that tell their class, 70 to train on and 25 to validate on: batches of 16, one short.

    The same seed gives the same orders.
    """

    def __init__(self, batch_size: int = 16, dtype: Any = np.uint8, val: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters()

    def arrays(self, train: bool) -> tuple[Any, Any]:
        rng = np.random.default_rng(0 if train else 1)
        y = rng.integers(0, N_CLASSES, 70 if train else 25)
        X = rng.integers(0, 200, (len(y), 2, 3))
        X[np.arange(len(y)), 0, y] += 55
        return X.astype(self.dtype), y  # type: ignore[attr-defined]

    def get_dataloader(self, train: bool) -> Any:
        if not train and not self.val:  # type: ignore[attr-defined]
            return None
        size = self.batch_size  # type: ignore[attr-defined]
        return cs.DataLoader(*self.arrays(train), size, shuffle=train, seed=5, scale=1 / 255)


def linear_model(lr: float = 0.5, seed: int = 2) -> d2l.SoftmaxRegression:
    """The book's concise model, whose first batch will draw the same weights each time."""
    np.random.seed(seed)
    return d2l.SoftmaxRegression(N_CLASSES, lr)
