"""The second edition's sections 3.5 to 3.7, block by block: as a script, and in a notebook.

The blocks are those of book/second/*.py, written anew from what the sections do.
test_book_second_torch.py holds their numbers beside PyTorch's.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from book_cells import ON_THE_SAMPLE, WAYS, cells_of, run
from numpy.testing import assert_allclose

from csoftmax import d2l
from csoftmax.books import images

SEEN = """
def told(value):
    return [told(item) for item in value] if isinstance(value, tuple) else (
        value.tolist() if hasattr(value, "tolist") else value)
names = '''sizes first_shape n_axes first_titles n_read resized sums row_sums picked losses share
    untrained titles again concise_accuracy'''.split()
print(json.dumps({name: told(globals()[name]) for name in names}))
print(json.dumps([animator.X, animator.Y]))
"""


# each way in one process of the test run, as its blocks take seconds
@pytest.fixture(
    scope="module",
    params=[pytest.param(way, marks=pytest.mark.xdist_group(f"second {way}")) for way in WAYS],
)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What all the blocks made, run in order in a process of their own."""
    cells = [cell for section in ("images", "scratch", "concise") for cell in cells_of(section)]
    folder = tmp_path_factory.mktemp("second")
    done = run([ON_THE_SAMPLE, *cells, SEEN], request.param, folder)
    values, curves = done.stdout.splitlines()[-2:]
    return {**json.loads(values), "curves": json.loads(curves), "stderr": done.stderr}


def test_the_data_are_indexable_and_read_in_batches(seen: Any) -> None:
    assert seen["sizes"] == [6000, 1000]
    assert seen["first_shape"] == [1, 28, 28]
    assert seen["n_axes"] == 18
    assert seen["first_titles"][0] == "ankle boot"
    assert seen["n_read"] == 6000
    assert seen["resized"] == [[32, 1, 64, 64], "float32", [32], "int64"]


def test_the_steps_of_the_model_are_what_the_book_shows(seen: Any) -> None:
    assert seen["sums"] == [[[3.0, 7.0, 14.0]], [[14.0], [10.0]]]
    assert_allclose(seen["row_sums"], [1, 1], rtol=1e-6)
    assert_allclose(seen["picked"], [0.1, 0.5], rtol=1e-6)
    assert_allclose(seen["losses"], [-math.log(0.1), -math.log(0.5)], rtol=1e-6)
    assert seen["share"] == 0.5


def test_a_readers_own_program_learns(seen: Any) -> None:
    """The program asserts what the book's does; here are the curve and what comes after it."""
    assert 0 < seen["untrained"] < 0.3
    epochs, values = seen["curves"]
    assert epochs == [[*range(1, 11)]] * 3
    train_loss, train_accuracy, test_accuracy = values
    assert train_loss[0] > 0.8  # and the program asserts that the last is below 0.5
    assert train_accuracy[-1] > 0.82
    assert test_accuracy[-1] > 0.7
    loss, accuracy = seen["again"]  # an epoch more
    assert loss < 0.5
    assert accuracy > 0.82
    assert len(seen["titles"]) == 6
    pairs = [title.split("\n") for title in seen["titles"]]
    assert sum(true == predicted for true, predicted in pairs) >= 4


@pytest.mark.slow
def test_a_readers_own_program_comes_to_the_books_figures(
    fashion_mnist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the data in the book's batches, as test_d2l.py has it for csoftmax's functions."""
    if len(fashion_mnist[0]) != 60_000:
        pytest.skip("the book's figures are of the full data, which is not installed here")
    monkeypatch.setattr(images, "fashion_mnist", lambda *folder: fashion_mnist)
    d2l.torch.manual_seed(0)
    names: dict[str, Any] = {}
    for cell in cells_of("scratch", "second"):
        exec(cell.replace("batch_size = 32", "batch_size = 256"), names)
    train_loss, train_accuracy, test_accuracy = (curve[-1] for curve in names["animator"].Y)
    assert 0.77 < names["animator"].Y[0][0] < 0.80
    assert 0.445 <= train_loss <= 0.450
    assert 0.845 <= train_accuracy <= 0.850
    assert 0.79 <= test_accuracy <= 0.845


def test_the_concise_program_learns(seen: Any) -> None:
    assert seen["concise_accuracy"] > 0.7


def test_nothing_is_told_on_the_way(seen: Any) -> None:
    assert seen["stderr"] == ""
