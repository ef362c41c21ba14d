"""What is done to a picture before a net sees it, as the book names it (``transforms``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import getattr_static
from typing import Any, TypeAlias

import numpy as np

from csoftmax.books.tensors import Tensor, from_numpy
from csoftmax.core.checks import check_positive

__all__ = ["Compose", "Resize", "ToTensor"]

Transform: TypeAlias = Callable[[Any], Any]


class ToTensor:
    """Make a picture a float32 tensor (channels, height, width) of numbers from 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax.d2l import transforms
    >>> picture = np.full((28, 28), 255, np.uint8)
    >>> X = transforms.ToTensor()(picture)
    >>> X.shape, X.dtype, float(X.max())
    ((1, 28, 28), dtype('float32'), 1.0)
    """

    def __call__(self, picture: Any) -> Any:
        """Return the tensor of a PIL image, or of an array (height, width[, channels])."""
        pixels = np.asarray(picture)
        if pixels.ndim not in (2, 3):
            raise ValueError(f"picture has shape {pixels.shape}, expected (height, width[, "
                             "channels])")  # fmt: skip
        channels = pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        scale = 1 / 255 if pixels.dtype == np.uint8 else 1
        return from_numpy(np.multiply(channels, np.float32(scale), dtype=np.float32))


class Resize:
    """Resize a picture (bilinear).

    Parameters
    ----------
    size : int or (height, width)
        In pixels; one number is the length of the shorter side, the other side keeps the ratio.

    Raises
    ------
    TypeError, ValueError
        Sizes that are no integers of 1 or more.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax.d2l import transforms
    >>> trans = transforms.Compose([transforms.Resize(64), transforms.ToTensor()])
    >>> trans(np.zeros((28, 28), np.uint8)).shape
    (1, 64, 64)
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = check_size(size, "size")

    def __call__(self, picture: Any) -> Any:
        """Return a PIL image of this size."""
        from PIL import Image

        if isinstance(picture, Tensor):
            raise TypeError("picture is a tensor, expected an image: put Resize before ToTensor")
        if not isinstance(picture, Image.Image):
            picture = Image.fromarray(np.asarray(picture))
        if len(self.size) == 2:
            height, width = self.size
        else:
            shorter = min(picture.size)
            width, height = (side * self.size[0] // shorter for side in picture.size)
        return picture.resize((width, height), Image.Resampling.BILINEAR)

    def keeps(self, height: int, width: int) -> bool:
        """Are pictures of this height and width left as they are?"""
        return self.size in ((height, width), (min(height, width),))


class Compose:
    """Do one thing after another to a picture.

    Parameters
    ----------
    transforms : sequence of callables
        Each takes what the one before it gives.

    Examples
    --------
    >>> from csoftmax.d2l import transforms
    >>> trans = [transforms.ToTensor()]
    >>> trans.insert(0, transforms.Resize(64))
    >>> len(transforms.Compose(trans).transforms)
    2
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)

    def __call__(self, picture: Any) -> Any:
        """Return what the last one gives."""
        for transform in self.transforms:
            picture = transform(picture)
        return picture


def check_size(size: int | Sequence[int], name: str) -> tuple[int, ...]:
    """Return the sides of a picture that are asked for: the shorter one, or height and width."""
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size,)
    if len(sides) not in (1, 2):
        raise ValueError(f"{name} is {size}, expected one number or (height, width)")
    return tuple(check_positive(side, name) for side in sides)


_CALLS: dict[type, Any] = {kind: kind.__call__ for kind in (Compose, Resize, ToTensor)}


def is_own(step: object, kind: type) -> bool:
    """Is this a `Compose`, `Resize` or `ToTensor` as csoftmax has it, and none of the reader's?"""
    return type(step) is kind and getattr_static(kind, "__call__") is _CALLS[kind]


def steps_of(transform: Transform) -> list[Transform]:
    """Return the single steps of a transform."""
    if isinstance(transform, Compose) and is_own(transform, Compose):
        return [step for part in transform.transforms for step in steps_of(part)]
    return [transform]
