"""What the book's tensor library calls methods that NumPy's arrays have under other names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike


class Spellings:
    """Methods of `Tensor`, all recorded."""

    def t(self: Any) -> Any:
        """The transpose of a matrix, as `T`."""
        return self.transpose()

    def type(self: Any, dtype: DTypeLike) -> Any:
        """Convert, as `astype`."""
        return self.astype(dtype)

    def exp(self: Any) -> Any:
        """The exponential of every entry, recorded."""
        return np.exp(self)

    def log(self: Any) -> Any:
        """The natural logarithm of every entry, recorded."""
        return np.log(self)

    def relu(self: Any) -> Any:
        """The entries above 0, and 0 for the others; its derivative at 0 is 0."""
        array = self.numpy()
        return self._made("relu", np.maximum(array, 0), lambda d: d * (array > 0), reads=(self,))

    def numel(self: Any) -> int:
        """The number of entries."""
        return int(self.size)

    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Return this array, of another dtype if one is named: there is one device, the CPU."""
        for wanted in (*args, *kwargs.values()):
            if str(wanted) not in ("cpu", "False", "True"):
                return self.astype(wanted)
        return self

    def zero_(self: Any) -> Any:
        """Set every entry to 0, in place."""
        self[...] = 0
        return self

    def view(self: Any, *shape: Any, **kwargs: Any) -> Any:
        """Reshape, if it is called with numbers; otherwise ndarray.view."""
        sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        if shape and all(isinstance(n, (int, np.integer)) for n in sizes):
            return self.reshape(sizes)
        return np.ndarray.view(self, *shape, **kwargs)

    def unsqueeze(self: Any, dim: int) -> Any:
        """Insert an axis of one entry, as numpy.expand_dims."""
        return self.reshape(np.expand_dims(self.numpy(), dim).shape)

    def float(self: Any) -> Any:
        """Convert to float32."""
        return self.astype(np.float32)

    def long(self: Any) -> Any:
        """Convert to int64."""
        return self.astype(np.int64)
