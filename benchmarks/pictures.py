"""How much preparing a drawing matters: ``python -m benchmarks.pictures [--images 2000]``.

Test images of Fashion-MNIST are pasted small and off-centre on a canvas, made into pictures of
28 x 28 in several ways, and given to a model of ten epochs. That takes about twenty seconds.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import csoftmax as cs
from csoftmax.data import PictureRecipe, prepare_picture

Pixels = NDArray[np.uint8]
TRIMMED = "the data set's rule: longest side 28, the box"
CANVAS, SMALLEST, LARGEST = 280, 100, 220  # pixels: a side of the canvas, of an image on it


def canvases(images: Pixels, seed: int = 0) -> list[Pixels]:
    """Return the images, each at a size and a place of its own on a black canvas."""
    from PIL import Image

    random = np.random.default_rng(seed)
    pasted = []
    for image in images:
        side = int(random.integers(SMALLEST, LARGEST))
        left, top = (int(n) for n in random.integers(0, CANVAS + 1 - side, 2))
        canvas = np.zeros((CANVAS, CANVAS), np.uint8)
        canvas[top : top + side, left : left + side] = np.asarray(
            Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
        )
        pasted.append(canvas)
    return pasted


def shrunk(canvas: Pixels) -> Pixels:
    """Return a canvas shrunk to 28 x 28 as it is."""
    from PIL import Image

    return np.asarray(Image.fromarray(canvas).resize((28, 28), Image.Resampling.BILINEAR))


def photo(canvas: Pixels, random: np.random.Generator) -> Pixels:
    """Return a canvas as a photo on white paper: uneven light, noise, specks, JPEG."""
    from PIL import Image

    down, across = np.mgrid[-0.5:0.5:280j, -0.5:0.5:280j]
    grey = 220 * (1 - 0.92 / 255 * canvas) * (1 + 0.2 * down + 0.12 * across)
    grey += random.normal(0, 5, grey.shape)
    for top, left in random.integers(0, CANVAS - 2, (10, 2)):
        grey[top : top + 2, left : left + 2] = random.integers(0, 200)
    file = io.BytesIO()
    Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


def ways(recipe: PictureRecipe) -> dict[str, Callable[[Pixels], Pixels]]:
    """Return the ways of making a picture of a canvas."""
    random = np.random.default_rng(1)
    mnist = replace(recipe, side=20, centre="mass")
    return {
        "the canvas shrunk as it is": shrunk,
        "MNIST's rule: longest side 20, centre of mass": lambda canvas: (
            prepare_picture(canvas, mnist).pixels
        ),
        TRIMMED: lambda canvas: prepare_picture(canvas, recipe).pixels,
        "the same of white paper": lambda canvas: prepare_picture(255 - canvas, recipe).pixels,
        "the same of a photo of white paper": lambda canvas: (
            prepare_picture(photo(canvas, random), recipe).pixels
        ),
    }


def accuracies(model: cs.SoftmaxRegression, test: cs.Dataset, n_images: int) -> dict[str, float]:
    """Return the share of test images that the model gets right, by how they were prepared."""
    images: Any = test.X[:n_images]
    labels, recipe = test.y[:n_images], model.recipe
    assert recipe is not None
    pasted = canvases(images)
    prepared = {"as they are in the set": images}
    for name, way in ways(recipe).items():
        prepared[name] = np.stack([way(canvas) for canvas in pasted])
    prepared["white paper, trimmed but not inverted"] = 255 - prepared[TRIMMED]
    return {name: float((model.predict(X) == labels).mean()) for name, X in prepared.items()}


def main(words: Sequence[str] | None = None) -> int:
    """Train, prepare, print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--sample", action="store_true", help="train on the bundled sample")
    options = parser.parse_args(words)
    train, test = cs.fashion_mnist_sample() if options.sample else cs.fashion_mnist()
    model = cs.SoftmaxRegression(train.n_features, train.n_classes, seed=0)
    loader = cs.DataLoader.from_dataset(train, 256, shuffle=True, seed=0)
    cs.train(model, loader, epochs=10, progress=False)
    for name, accuracy in accuracies(model, test, options.images).items():
        print(f"{100 * accuracy:5.1f} %  {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
