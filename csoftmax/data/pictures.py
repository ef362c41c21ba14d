"""A drawing or a photo made into the kind of picture that a data set has.

A model knows only its data set's way of showing things: their size, their place, what is dark. A
drawing that is merely shrunk shows them in another way, and most predictions are then wrong
(``python -m benchmarks.pictures`` has the figures).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MOST = (
    1024  # larger pictures are shrunk first: the things in them have far more pixels than needed
)
_CELLS = 64  # along the longer side: parts closer to each other than a cell are one thing
_LEAST_PART = 0.005  # of the largest part: what is less is a speck
_NOISES = 4.0  # a pixel stands out if it differs by so many standard deviations of the ground's
_MARGIN, _BORDER = 0.02, 0.04  # of the shorter side: left out; taken for ground, next to it
_POINTS, _TRIES = 600, 64  # of the border; planes tried through three of them
_AGREES, _STEEPEST = 8.0, 160.0  # levels of grey: how near a plane is, how much it may fall


@dataclass(frozen=True)
class PictureRecipe:
    """How a data set shows things: what `prepare_picture` makes of a drawing.

    The defaults are Fashion-MNIST's way: trimmed to the thing, its longest side 28 pixels, the box
    around it in the middle, bright on a dark ground. MNIST's is ``side=20, centre="mass"``.

    Parameters
    ----------
    height, width : int
        Of the data set's pictures, in pixels.
    side : int
        How long the longer side of the thing becomes, in pixels; at most as the picture allows.
    centre : "box" or "mass"
        What comes into the middle: the box around the thing, or its centre of mass.
    dark_ground : bool
        Whether the ground is 0 and the things are bright; or else it is 255 and they are dark.
    threshold : int
        A pixel belongs to the thing if it differs from the ground by more, 1..254.

    Raises
    ------
    TypeError, ValueError
        For anything else.

    Notes
    -----
    Xiao, Rasul and Vollgraf, arXiv:1708.07747, section 2; for MNIST, LeCun, Bottou, Bengio and
    Haffner 1998, section III.A.

    Examples
    --------
    >>> from csoftmax.data import fashion_mnist_sample
    >>> fashion_mnist_sample()[0].recipe.side
    28
    """

    height: int = 28
    width: int = 28
    side: int = 28
    centre: str = "box"
    dark_ground: bool = True
    threshold: int = 20

    def __post_init__(self) -> None:
        for name, most in (
            ("height", 2**15),
            ("width", 2**15),
            ("side", 2**15),
            ("threshold", 254),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} is {value!r}, expected an integer")
            if not 1 <= value <= most:
                raise ValueError(f"{name} is {value}, expected 1..{most}")
        if self.centre not in ("box", "mass"):
            raise ValueError(f"centre is {self.centre!r}, expected 'box' or 'mass'")
        if not isinstance(self.dark_ground, bool):
            raise TypeError(f"dark_ground is {self.dark_ground!r}, expected True or False")

    @classmethod
    def of(cls, facts: object) -> PictureRecipe:
        """Return the recipe that a file tells of, as `dataclasses.asdict` gave it.

        Examples
        --------
        >>> from csoftmax.data import PictureRecipe
        >>> PictureRecipe.of({"side": 20, "centre": "mass"}).side
        20
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(facts, dict) or not known.issuperset(facts):
            raise TypeError(f"recipe {facts!r}, not a table of {', '.join(sorted(known))}")
        return cls(**facts)


def check_recipe(recipe: object, n_features: int) -> None:
    """Raise unless this is None, or a recipe for pictures of so many pixels."""
    if recipe is None:
        return
    if not isinstance(recipe, PictureRecipe):
        raise TypeError(f"recipe is a {type(recipe).__name__}, expected a PictureRecipe or None")
    if recipe.height * recipe.width != n_features:
        raise ValueError(
            f"recipe is for pictures of {recipe.height} x {recipe.width} pixels, expected "
            f"{n_features} pixels, one per feature"
        )


class PreparedPicture(NamedTuple):
    """What `prepare_picture` made of a picture, and what it met on the way."""

    pixels: NDArray[np.uint8]  # (height, width), as the data set has them
    inverted: bool  # the things were dark on a bright ground and the data set's are not; or so
    empty: bool  # nothing stood out from the ground


def prepare_picture(picture: NDArray[Any], recipe: PictureRecipe) -> PreparedPicture:
    """Make of a drawing or a photo of one thing a picture as the recipe's data set has them.

    What differs from the ground is the thing: specks and a frame along the border are left out. It
    is trimmed, scaled and put into the middle as the recipe says. Dark things on white are
    inverted where the data set's are bright on black, and the other way round. A picture that has
    the data set's size is taken to be trimmed already.

    Parameters
    ----------
    picture : array of uint8, shape (height, width), (height, width, 3) or (height, width, 4)
        Array; red, green, blue; or these and opacity. Colours become their luma, and what is
        transparent becomes ground: white around dark things, black around bright ones.
    recipe : PictureRecipe
        That of a data set or of a model trained on one: ``model.recipe``.

    Returns
    -------
    PreparedPicture
        A named tuple: pixels (recipe.height, recipe.width) of uint8; was it inverted, is it empty?

    Raises
    ------
    TypeError, ValueError
        For an array of another dtype or shape, or without pixels.
    ImportError
        If Pillow is not installed.

    Examples
    --------
    A black bar on white paper becomes as high as the picture, and white on black:

    >>> import numpy as np
    >>> from csoftmax.data import PictureRecipe, prepare_picture
    >>> paper = np.full((300, 400), 250, np.uint8)
    >>> paper[50:190, 100:150] = 0
    >>> prepared = prepare_picture(paper, PictureRecipe())
    >>> prepared.inverted, prepared.pixels.shape, int(prepared.pixels[0, 14])
    (True, (28, 28), 255)

    A photo, and what a model makes of it:

    >>> from PIL import Image, ImageOps  # doctest: +SKIP
    >>> photo = ImageOps.exif_transpose(Image.open("shirt.jpg")).convert("RGBA")  # doctest: +SKIP
    >>> prepared = prepare_picture(np.asarray(photo), model.recipe)  # doctest: +SKIP
    >>> model.class_names[model.predict(prepared.pixels[None])[0]]  # doctest: +SKIP
    'Shirt'
    """
    if not isinstance(recipe, PictureRecipe):
        raise TypeError(f"recipe is a {type(recipe).__name__}, expected a PictureRecipe")
    grey = _grey(_checked(picture))
    is_trimmed = grey.shape == (recipe.height, recipe.width)
    if not is_trimmed:
        grey = _without_margin(grey)
    ground, noise = _ground(grey, tries=0 if is_trimmed else _TRIES)
    threshold = max(float(recipe.threshold), _NOISES * noise)
    strength, is_dark = _strength(grey, ground, threshold)
    box = _box(strength, threshold)
    if box is None:
        pixels = np.zeros((recipe.height, recipe.width), np.float32)
    elif not is_trimmed:
        pixels = _placed(strength[box], recipe)
    elif is_dark or ground.max() > recipe.threshold:
        pixels = strength
    else:
        pixels = grey  # bit by bit: a picture out of such a data set needs nothing
    stored: Array = np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
    if not recipe.dark_ground:
        stored = 255 - stored
    inverted = box is not None and is_dark == recipe.dark_ground
    return PreparedPicture(stored, inverted, box is None)


def shrink_picture(picture: NDArray[Any], height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture in grey and of another size, as a whole: where no recipe is known.

    Parameters
    ----------
    picture : array of uint8
        As for `prepare_picture`.
    height, width : int
        In pixels.

    Returns
    -------
    array of uint8, shape (height, width)

    Raises
    ------
    TypeError, ValueError
        For an array of another dtype or shape, or without pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from csoftmax.data import shrink_picture
    >>> shrink_picture(np.full((300, 400), 250, np.uint8), 2, 3)
    array([[250, 250, 250],
           [250, 250, 250]], dtype=uint8)
    """
    Image = _pillow()
    grey = Image.fromarray(_grey(_checked(picture)))
    resized = np.asarray(grey.resize((width, height), Image.Resampling.BOX))
    shrunk: Array = np.rint(resized).astype(np.uint8)
    return shrunk


def _checked(picture: NDArray[Any]) -> NDArray[np.uint8]:
    array = np.asarray(picture)
    if array.dtype != np.uint8:
        raise TypeError(f"picture has dtype {array.dtype}, expected uint8")
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise ValueError(
            f"picture has shape {array.shape}, expected (height, width), (height, width, 3) or "
            "(height, width, 4)"
        )
    if array.size == 0:
        raise ValueError(f"picture has shape {array.shape}, expected at least one pixel")
    return array


def _grey(picture: NDArray[np.uint8]) -> Array:
    """Return the luma of a picture, shrunk if it is large; what is transparent becomes ground."""
    image = _pillow().fromarray(np.ascontiguousarray(picture))
    factor = math.ceil(max(image.size) / _MOST)
    if factor > 1:
        image = image.reduce((min(factor, image.width), min(factor, image.height)))
    grey: Array = np.asarray(image.convert("L"), np.float32)
    if image.mode == "RGBA":
        opacity = np.asarray(image.getchannel("A"), np.float32) / 255
        behind = 0 if (grey * opacity).sum() > 127.5 * opacity.sum() else 255
        grey = grey * opacity + behind * (1 - opacity)
    return grey


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("preparing a picture needs Pillow: pip install pillow") from error
    return Image


def _without_margin(grey: Array) -> Array:
    """Return a picture without its outermost pixels: scanners and screenshots leave lines there."""
    margin = int(_MARGIN * min(grey.shape))
    return grey[margin : len(grey) - margin, margin : grey.shape[1] - margin]


def _ground(grey: Array, tries: int) -> tuple[Array, float]:
    """Return how bright the ground is at each pixel, and the standard deviation of its noise.

    It is the plane that most of the border agrees with, because light falls off over a sheet of
    paper, and because a thing may cover a part of the border. With 0 tries it is even: of a trimmed
    picture the border shows too little.
    """
    height, width = grey.shape
    depth = max(1, round(_BORDER * min(grey.shape)))
    is_border = np.ones(grey.shape, np.bool_)
    is_border[depth : height - depth, depth : width - depth] = False
    rows, columns = np.nonzero(is_border)
    step = max(1, len(rows) // _POINTS)
    rows, columns = rows[::step], columns[::step]
    values = grey[rows, columns].astype(np.float64)
    places = np.stack([np.ones(len(rows)), rows / height - 0.5, columns / width - 0.5], 1)
    plane = _plane(places, values, tries)
    off = np.abs(values - places @ plane)
    near = off[off <= 4 * _AGREES]
    noise = 1.4826 * float(np.median(near)) if len(near) else 0.0
    down, across = np.arange(height) / height - 0.5, np.arange(width) / width - 0.5
    ground = plane[0] + plane[1] * down[:, None] + plane[2] * across
    return np.clip(ground, 0, 255).astype(np.float32), noise


def _plane(places: Array, values: Array, tries: int) -> Array:
    """Return the coefficients of the plane that most values lie near: 1, down, across."""
    counts = np.convolve(np.bincount((values / 8).astype(int), minlength=32), [1, 2, 1], "same")
    flat = np.array([8.0 * counts.argmax() + 4, 0, 0])
    flat[0] = np.median(values[np.abs(values - flat[0]) <= 2 * _AGREES])
    if tries == 0:
        return flat
    threes = np.random.default_rng(0).integers(0, len(places), (tries, 3))
    threes = threes[np.abs(np.linalg.det(places[threes])) > 0.05]  # not those along one line
    sloped = np.linalg.solve(places[threes], values[threes][..., None])[..., 0]
    planes = np.vstack([flat, sloped[np.abs(sloped[:, 1:]).sum(axis=1) < _STEEPEST]])
    agree = (np.abs(values[:, None] - places @ planes.T) <= _AGREES).sum(axis=0)
    plane: Array = planes[agree.argmax()]  # of equals the first, the flat one
    for _ in range(3):
        near = np.abs(values - places @ plane) <= 2 * _AGREES
        plane = np.linalg.lstsq(places[near], values[near], rcond=None)[0]
    return plane


def _strength(grey: Array, ground: Array, threshold: float) -> tuple[Array, bool]:
    """Return how much pixels stand out, the ground as 0, and whether it is to the dark side.

    White or black, what the thing is nearer to than the ground is, becomes 255.
    """
    differs = grey - ground
    darker = float(np.maximum(-differs - threshold, 0).sum())
    brighter = float(np.maximum(differs - threshold, 0).sum())
    if darker > brighter:
        return -differs * (255 / np.maximum(ground, 1)), True
    return differs * (255 / np.maximum(255 - ground, 1)), False


def _box(strength: Array, threshold: float) -> tuple[slice, slice] | None:
    """Return the rows and columns of the thing, without specks; None if nothing stands out."""
    stands_out = np.where(strength > threshold, strength, 0)
    height, width = strength.shape
    size = math.ceil(max(height, width) / _CELLS)
    cells = np.add.reduceat(stands_out, np.arange(0, height, size), axis=0)
    cells = np.add.reduceat(cells, np.arange(0, width, size), axis=1)
    parts = _parts(cells)
    if not parts:
        return None
    least = _LEAST_PART * max(cells.flat[part].sum() for part in parts)
    kept = np.zeros(cells.shape, np.bool_)
    for part in parts:
        kept.flat[part] = cells.flat[part].sum() >= least
    is_thing = kept.repeat(size, axis=0).repeat(size, axis=1)[:height, :width] & (stands_out > 0)
    return _extent(is_thing.any(axis=1)), _extent(is_thing.any(axis=0))


def _parts(cells: Array) -> list[list[int]]:
    """Return the cells that are not 0, counted row by row, in groups of those that touch."""
    width = cells.shape[1]
    rim = (
        width + 1
    )  # one more column, always empty: a row's end does not touch the next one's start
    left = {row * rim + column for row, column in np.argwhere(cells).tolist()}
    parts = []
    while left:
        part = [left.pop()]
        for cell in part:  # which grows
            for step in (1, rim - 1, rim, rim + 1):
                for neighbour in (cell - step, cell + step):
                    if neighbour in left:
                        left.remove(neighbour)
                        part.append(neighbour)
        parts.append([cell // rim * width + cell % rim for cell in part])
    return parts


def _extent(is_there: Any) -> slice:
    there = np.flatnonzero(is_there)
    return slice(int(there[0]), int(there[-1]) + 1)


def _placed(thing: Array, recipe: PictureRecipe) -> Array:
    """Return a trimmed thing scaled and put where the recipe has it."""
    factor = min(
        recipe.side / max(thing.shape),
        recipe.height / thing.shape[0],
        recipe.width / thing.shape[1],
    )
    height, width = (max(1, round(factor * n)) for n in thing.shape)
    Image = _pillow()
    image = Image.fromarray(np.ascontiguousarray(thing))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    scaled = np.clip(np.asarray(image), 0, 255)
    top, left = (recipe.height - height) // 2, (recipe.width - width) // 2
    if recipe.centre == "mass":
        mass = max(float(scaled.sum()), 1)
        row = float(scaled.sum(axis=1) @ np.arange(height)) / mass
        column = float(scaled.sum(axis=0) @ np.arange(width)) / mass
        top = min(max(round((recipe.height - 1) / 2 - row), 0), recipe.height - height)
        left = min(max(round((recipe.width - 1) / 2 - column), 0), recipe.width - width)
    pixels = np.zeros((recipe.height, recipe.width), np.float32)
    pixels[top : top + height, left : left + width] = scaled
    return pixels
