"""Pictures that come in: decoded within limits, and made into what the model knows."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.app.safety import Refusal
from csoftmax.app.session import View
from csoftmax.data import prepare_picture, shrink_picture
from csoftmax.model import is_integer

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MOST_PIXELS = 64_000_000
_ENOUGH = (1024, 1024)  # pixels; decoding goes on with less


def decoded(body: bytes, shrink: bool = True) -> NDArray[np.uint8]:
    """Return a picture as (height, width, 4): red, green, blue and opacity."""
    from PIL import Image, ImageOps

    if not body:
        raise Refusal(415, "this is no picture: there is nothing in it", "no picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Any = Image.open(io.BytesIO(body), formats=FORMATS)
        pixels = image.width * image.height
        if pixels <= MOST_PIXELS:
            if shrink:
                image.draft("RGB", _ENOUGH)
            image = ImageOps.exif_transpose(image).convert("RGBA")
            if shrink:
                image.thumbnail(_ENOUGH, reducing_gap=2.0)
            return np.asarray(image)
    except Image.DecompressionBombError:
        pixels = 2 * MOST_PIXELS
    except Exception as error:  # what decoders raise for broken bytes has many types
        raise Refusal(415, f"this is no picture that can be read: expected one of "
                           f"{', '.join(FORMATS)}", "no picture") from error  # fmt: skip
    raise Refusal(413, f"this picture has more than {MOST_PIXELS:,} pixels, the most that is "
                       "decoded here", "bomb", MOST_PIXELS)  # fmt: skip


def as_it_is(picture: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the grey pixels of a picture that has been prepared already."""
    if picture.shape[:2] != shape:
        raise Refusal(422, f"this picture is {picture.shape[1]} x {picture.shape[0]}, expected "
                           f"{shape[1]} x {shape[0]} of one that is taken as it is")  # fmt: skip
    red, green, blue = (picture[..., k].astype(np.uint32) for k in range(3))
    grey: NDArray[np.uint8] = ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(
        np.uint8
    )
    return grey


def prepared(
    picture: NDArray[np.uint8], view: View, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], str | None]:
    """Return a picture as the model knows them, and what the page says of it.

    Where neither the model nor the data have a recipe, any guess may be wrong: it is shrunk.
    """
    recipe = view.model.recipe or view.data.train.recipe
    if recipe is None:
        return shrink_picture(picture, *shape), "shrunk"
    made = prepare_picture(picture, recipe)
    return made.pixels, "empty" if made.empty else "inverted" if made.inverted else None


def as_stored(pixels: NDArray[np.uint8], data: cs.Dataset) -> Any:
    """Return pixels 0..255 as the model of these data takes them, (1, n_features)."""
    row = pixels.reshape(1, -1)
    if data.X.dtype == np.uint8:
        return row
    bright = row / 255
    if is_integer(data.X):
        return np.round(bright / data.scale).astype(data.X.dtype)
    return bright.astype(data.X.dtype)
