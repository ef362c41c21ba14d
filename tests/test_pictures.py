"""A drawing or a photo becomes a picture as the data set has them; the model keeps the recipe."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import csoftmax as cs
from benchmarks.pictures import accuracies
from csoftmax.core.tensors import METADATA_KEY
from csoftmax.data import PictureRecipe, prepare_picture, shrink_picture, split_dataset

Pixels = Any
RECIPE = PictureRecipe()


def paper(
    height: int, width: int, box: tuple[slice, slice], ground: int = 255, ink: int = 0
) -> Any:
    """Return an even picture with a bar on it."""
    picture = np.full((height, width), ground, np.uint8)
    picture[box] = ink
    return picture


# 140 x 70 of ink: 28 x 14 once the longer side has 28 pixels, 7 columns free on either side
BAR = (slice(40, 180), slice(200, 270))
BAR_PIXELS = np.pad(np.full((28, 14), 255), ((0, 0), (7, 7)))


# ---------------------------------------------------------------- trimmed, scaled, placed


@pytest.mark.parametrize(("ground", "ink", "inverted"), [(255, 0, True), (0, 255, False)])
def test_a_bar_is_trimmed_scaled_and_put_into_the_middle(
    ground: int, ink: int, inverted: bool
) -> None:
    prepared = prepare_picture(paper(300, 400, BAR, ground, ink), RECIPE)
    assert_array_equal(prepared.pixels, BAR_PIXELS)
    assert prepared.pixels.dtype == np.uint8
    assert (prepared.inverted, prepared.empty) == (inverted, False)
    dark_things = prepare_picture(
        paper(300, 400, BAR, ground, ink), replace(RECIPE, dark_ground=False)
    )
    assert_array_equal(dark_things.pixels, 255 - BAR_PIXELS)
    assert dark_things.inverted is not inverted


def test_side_and_size_of_another_data_set() -> None:
    wide = PictureRecipe(height=20, width=50, side=40)
    prepared = prepare_picture(paper(300, 400, BAR), wide)  # 20 x 10: as high as there is room
    assert_array_equal(prepared.pixels, np.pad(np.full((20, 10), 255), ((0, 0), (20, 20))))
    small = prepare_picture(paper(300, 400, BAR), replace(RECIPE, side=20))
    assert_array_equal(small.pixels, np.pad(np.full((20, 10), 255), ((4, 4), (9, 9))))


def test_centre_of_mass() -> None:
    # an L of 20 x 20: its foot is 20 x 5, its stem 15 x 5
    picture = paper(300, 300, (slice(100, 175), slice(100, 125)), 0, 255)
    picture[175:200, 100:200] = 255
    prepared = prepare_picture(picture, replace(RECIPE, side=20, centre="mass")).pixels / 255
    rows, columns = np.indices((28, 28))
    for places in (rows, columns):  # within the half pixel that whole shifts leave
        assert abs((prepared * places).sum() / prepared.sum() - 13.5) <= 0.5
    boxed = prepare_picture(picture, replace(RECIPE, side=20)).pixels
    assert np.flatnonzero(boxed.any(axis=1))[[0, -1]].tolist() == [4, 23]


def test_half_dark_ink_on_grey_paper_is_as_strong_as_it_is_near_to_black() -> None:
    prepared = prepare_picture(paper(300, 400, BAR, 200, 50), RECIPE)
    assert prepared.pixels.max() == round(255 * 150 / 200)
    assert prepared.pixels[:, :7].max() == 0


def test_a_picture_of_the_set_stays_as_it_is() -> None:
    _, test = cs.fashion_mnist_sample()
    for image in test.X[::5]:
        prepared = prepare_picture(image, RECIPE)
        assert_array_equal(prepared.pixels, image)
        assert not prepared.inverted
        negative = prepare_picture(255 - image, RECIPE)
        assert negative.inverted
        assert np.abs(negative.pixels.astype(int) - image).max() <= 2  # the ground may be 254


def test_how_much_preparing_matters() -> None:
    train, test = cs.fashion_mnist_sample()
    model = cs.SoftmaxRegression(784, 10, seed=0)
    cs.train(model, cs.DataLoader.from_dataset(train, 64, shuffle=True, seed=0), epochs=10)
    shares = list(accuracies(model, test, 200).values())
    as_they_are, shrunk, mnist, trimmed, white, photographed, not_inverted = shares
    assert min(as_they_are, trimmed, white, photographed) > 0.7
    assert mnist < 0.65
    assert max(shrunk, not_inverted) < 0.4


# ---------------------------------------------------------------- what cameras and scanners add


def specks(picture: Pixels) -> Pixels:
    for k in range(12):
        picture[(10 + 23 * k) % 290 :][:2, (31 * k) % 190 :][:, :2] = 90
    return picture


def frame(picture: Pixels) -> Pixels:
    picture[:5], picture[-5:], picture[:, :5], picture[:, -5:] = 0, 0, 40, 40
    return picture


def uneven_light(picture: Pixels) -> Pixels:
    light = 1 + np.linspace(-0.35, 0, 300)[:, None] + np.linspace(0, -0.2, 400)
    return (picture * light).astype(np.uint8)


def noise(picture: Pixels) -> Pixels:
    noisy = picture + np.random.default_rng(0).normal(0, 9, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("spoil", [specks, frame, uneven_light, noise])
def test_what_is_not_the_thing_is_left_out(spoil: Any) -> None:
    prepared = prepare_picture(spoil(paper(300, 400, BAR, 240, 10)), RECIPE)
    assert prepared.inverted
    assert not prepared.empty
    off = np.abs(prepared.pixels.astype(int) - 245 / 255 * BAR_PIXELS)
    assert off.mean() < 8  # of 255; a box that is off by a pixel makes it 20 or more
    assert off.max() < 70


def test_colours_and_opacity() -> None:
    colours = np.zeros((300, 400, 4), np.uint8)  # transparent, and black where one cannot see it
    colours[BAR] = 200, 30, 30, 255
    red = prepare_picture(colours, RECIPE)
    assert red.inverted  # a dark red: it is seen on white
    luma = round(0.299 * 200 + 0.587 * 30 + 0.114 * 30)
    assert abs(int(red.pixels[14, 14]) - (255 - luma)) <= 1
    on_white = np.where(colours[..., 3:] > 0, colours[..., :3], 255).astype(np.uint8)
    assert_array_equal(prepare_picture(on_white, RECIPE).pixels, red.pixels)
    colours[BAR] = 250, 250, 250, 255
    bright = prepare_picture(colours, RECIPE)  # a bright one is seen on black
    assert (bright.inverted, int(bright.pixels[14, 14])) == (False, 250)


# ---------------------------------------------------------------- sizes and extremes


@pytest.mark.parametrize("shape", [(1, 1), (300, 300), (28, 28), (2, 5000, 4)])
@pytest.mark.parametrize("value", [0, 130, 255])
def test_a_picture_of_nothing(shape: tuple[int, ...], value: int) -> None:
    prepared = prepare_picture(np.full(shape, value, np.uint8), RECIPE)
    assert (prepared.inverted, prepared.empty) == (False, True)
    assert_array_equal(prepared.pixels, np.zeros((28, 28)))
    white = prepare_picture(np.full(shape, value, np.uint8), replace(RECIPE, dark_ground=False))
    assert_array_equal(white.pixels, np.full((28, 28), 255))


@pytest.mark.parametrize(
    ("shape", "box", "expected"),
    [
        ((300, 300), (slice(50, 250), slice(150, 151)), (28, 1)),
        ((300, 300), (slice(150, 151), slice(50, 250)), (1, 28)),
        ((1, 900), (slice(0, 1), slice(300, 500)), (1, 28)),
        ((900, 1), (slice(300, 500), slice(0, 1)), (28, 1)),
        ((9, 9), (slice(3, 6), slice(3, 6)), (28, 28)),
        ((4000, 5000), (slice(1000, 3000), slice(1000, 3000)), (28, 28)),
        ((1, 20_000_000), (slice(0, 1), slice(5_000_000, 9_000_000)), (1, 28)),
    ],
)
def test_thin_small_and_huge(
    shape: tuple[int, int], box: tuple[slice, slice], expected: tuple[int, int]
) -> None:
    prepared = prepare_picture(paper(*shape, box), RECIPE)
    assert not prepared.empty
    there = prepared.pixels > 60
    assert (there.any(axis=1).sum(), there.any(axis=0).sum()) == expected


def test_without_a_recipe_a_picture_is_shrunk_as_a_whole() -> None:
    picture = np.full((200, 300, 4), 255, np.uint8)
    picture[:, 150:, :3] = 20, 20, 20
    assert_array_equal(shrink_picture(picture, 2, 2), [[255, 20]] * 2)
    assert_array_equal(
        shrink_picture(np.kron([[1, 9]], np.ones((4, 4))).astype(np.uint8), 1, 2), [[1, 9]]
    )


def test_views_are_taken_and_left_alone() -> None:
    picture = paper(300, 400, BAR)
    for view in (picture[::-1], np.asfortranarray(picture), picture[:, ::-1]):
        view.flags.writeable = False
        assert_array_equal(prepare_picture(view, RECIPE).pixels, BAR_PIXELS)
    assert_array_equal(picture, paper(300, 400, BAR))


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (np.zeros((5, 5)), TypeError, "picture has dtype float64, expected uint8"),
        (np.zeros(5, np.uint8), ValueError, r"picture has shape \(5,\), expected \(height, wid"),
        (np.zeros((5, 5, 2), np.uint8), ValueError, r"picture has shape \(5, 5, 2\), expected"),
        (np.zeros((0, 5), np.uint8), ValueError, r"\(0, 5\), expected at least one pixel"),
    ],
)
def test_refused_pictures(picture: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        prepare_picture(picture, RECIPE)


def test_no_recipe_no_picture() -> None:
    with pytest.raises(TypeError, match="recipe is a NoneType, expected a PictureRecipe"):
        prepare_picture(paper(300, 400, BAR), None)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the recipe and where it goes


@pytest.mark.parametrize(
    ("facts", "error", "message"),
    [
        ({"side": 0}, ValueError, "side is 0, expected 1"),
        ({"height": 28.0}, TypeError, "height is 28.0, expected an integer"),
        ({"width": True}, TypeError, "width is True, expected an integer"),
        ({"threshold": 255}, ValueError, "threshold is 255, expected 1..254"),
        ({"centre": "top"}, ValueError, "centre is 'top', expected 'box' or 'mass'"),
        ({"dark_ground": 1}, TypeError, "dark_ground is 1, expected True or False"),
    ],
)
def test_refused_recipes(facts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PictureRecipe(**facts)


def test_the_recipe_goes_from_the_data_set_to_the_model(tmp_path: Path) -> None:
    train, test = cs.fashion_mnist_sample()
    assert train.recipe == test.recipe == RECIPE
    assert split_dataset(train)[1].recipe == RECIPE
    loader = cs.DataLoader.from_dataset(train, 600)
    for start in (
        lambda model: cs.train(model, loader, epochs=1),
        lambda model: next(cs.train_slices(model, train, epochs=1)),
    ):
        model = cs.SoftmaxRegression(784, 10, seed=0)
        assert model.recipe is None
        start(model)
        assert model.recipe == RECIPE
    model.save(tmp_path / "model.safetensors")
    assert cs.SoftmaxRegression.load(tmp_path / "model.safetensors").recipe == RECIPE


def test_a_model_keeps_its_own_recipe() -> None:
    train, _ = cs.fashion_mnist_sample()
    model = cs.SoftmaxRegression(784, 10, seed=0)
    model.recipe = own = replace(RECIPE, side=20)
    cs.train(model, train, epochs=1)
    assert model.recipe == own


def test_a_failed_epoch_leaves_no_recipe_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    train, test = cs.fashion_mnist_sample()
    model = cs.SoftmaxRegression(784, 10, seed=0)
    monkeypatch.setattr(cs.training, "evaluate_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cs.train(model, train, validation=test, epochs=1)
    assert model.recipe is None


def test_no_recipe_is_for_other_pictures() -> None:
    message = "recipe is for pictures of 28 x 28 pixels, expected 6 pixels, one per feature"
    with pytest.raises(ValueError, match=message):
        cs.SoftmaxRegression(6, 3).recipe = RECIPE
    with pytest.raises(ValueError, match=message):
        cs.Dataset(np.zeros((2, 6)), [0, 1], recipe=RECIPE)
    with pytest.raises(TypeError, match="recipe is a str, expected a PictureRecipe or None"):
        cs.DataLoader(np.zeros((2, 6)), np.array([0, 1]), 1, recipe="box")  # type: ignore[arg-type]


def saved(path: Path, recipe: Any) -> Path:
    """Write a model's file with this as its recipe; with None there is none."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    model = cs.SoftmaxRegression(784, 10, seed=0)
    model.recipe = RECIPE
    model.save(path)
    with safe_open(path, "numpy") as file:
        description = json.loads(file.metadata()[METADATA_KEY])
    assert description.pop("recipe") == asdict(RECIPE)
    if recipe is not None:
        description["recipe"] = recipe
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(description)})
    return path


def test_older_files_have_no_recipe(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.safetensors", recipe=None)
    assert cs.SoftmaxRegression.load(path).recipe is None
    plain = cs.SoftmaxRegression(6, 3, seed=0)
    plain.save(path)
    assert b"recipe" not in path.read_bytes()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("box", "recipe 'box', not a table of centre, dark_ground"),
        ({**asdict(RECIPE), "shear": 1}, "not a table of centre, dark_ground"),
        ({**asdict(RECIPE), "side": -1}, "side is -1, expected"),
        (
            {**asdict(RECIPE), "height": 29},
            "recipe is for pictures of 29 x 28 pixels, expected 784",
        ),
        ([], "not a table"),
    ],
)
def test_a_broken_recipe_in_a_file(tmp_path: Path, recipe: Any, message: str) -> None:
    path = saved(tmp_path / "model.safetensors", recipe=recipe)
    with pytest.raises(cs.DataError, match="the metadata do not fit a model: .*" + message):
        cs.SoftmaxRegression.load(path)
