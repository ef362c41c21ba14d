"""The model: its parameters, its predictions, and its file, broken in every way."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import csoftmax as cs
from csoftmax import reference
from csoftmax.core.tensors import METADATA_KEY

Array = Any


def small_model(dtype: str = "float32", **options: Any) -> cs.SoftmaxRegression:
    model = cs.SoftmaxRegression(6, 3, seed=0, dtype=dtype, **options)
    model.W, model.b = np.random.default_rng(1).normal(size=(6, 3)), [0.5, -1.0, 0.25]
    return model


# ---------------------------------------------------------------- parameters


def test_the_parameters_start_as_the_book_says() -> None:
    model = cs.SoftmaxRegression(784, 10, seed=0)
    assert model.W.shape == (784, 10)
    assert model.W.dtype == model.b.dtype == model.dtype == np.float32
    assert model.n_features == 784
    assert model.n_classes == 10
    # 7840 draws: the mean is within 5 of its own standard deviations, and so is the deviation
    assert abs(model.W.mean()) < 5 * 0.01 / np.sqrt(7840)
    assert_allclose(model.W.std(), 0.01, rtol=5 / np.sqrt(2 * 7840))
    assert_array_equal(model.b, np.zeros(10))
    assert model.scale == 1.0
    assert model.class_names == tuple("0123456789")
    assert repr(model) == "SoftmaxRegression(784, 10, dtype='float32')"


def test_a_seed_decides_the_start_in_either_precision() -> None:
    first, again = (cs.SoftmaxRegression(20, 4, seed=3) for _ in range(2))
    wide = cs.SoftmaxRegression(20, 4, seed=3, dtype="float64")
    assert_array_equal(first.W, again.W)
    assert_array_equal(first.W, wide.W.astype(np.float32))
    assert not np.array_equal(first.W, cs.SoftmaxRegression(20, 4, seed=4).W)
    assert not np.array_equal(cs.SoftmaxRegression(20, 4).W, cs.SoftmaxRegression(20, 4).W)


def test_w_and_b_can_be_assigned_into_and_to() -> None:
    model = cs.SoftmaxRegression(6, 3, seed=0)
    X = np.eye(6, dtype=np.float32)
    model.W[...] = 0
    model.W[2, 1] = 5
    model.b[0] = 7
    expected = np.zeros((6, 3))
    expected[2, 1], expected[:, 0] = 5, 7
    assert_array_equal(model.decision_function(X), expected)
    W = model.W
    model.W = np.arange(18).reshape(6, 3).tolist()
    model.b = np.zeros(3, np.float64)
    assert_array_equal(W, np.arange(18).reshape(6, 3))  # the same array still
    assert_array_equal(model.decision_function(X), W)
    model.W -= 1
    model.b += 1
    assert_array_equal(model.decision_function(X), np.arange(18).reshape(6, 3))
    assert model.W.T.flags.c_contiguous
    assert model.W.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("W", np.zeros((3, 6)), ValueError, r"W has shape \(6, 3\), got .* \(3, 6\)"),
        ("W", 0.0, ValueError, r"W has shape \(6, 3\), got .* \(\)"),
        ("W", np.zeros((6, 3), complex), TypeError, "W has dtype complex128"),
        ("W", [["x"] * 3] * 6, TypeError, "W has dtype"),
        ("b", np.zeros((1, 3)), ValueError, r"b has shape \(3,\), got"),
        ("b", [1.0, 2.0, None], TypeError, "b has dtype object"),
        ("scale", 0, ValueError, "scale is 0.0, expected a number > 0"),
        ("scale", -1.0, ValueError, "scale is -1.0"),
        ("scale", float("nan"), ValueError, "scale is nan, expected a finite number"),
        ("scale", "1", TypeError, "scale is a str, expected a number"),
        ("class_names", ["a", "b"], ValueError, "class_names has 2 names but n_classes is 3"),
        ("class_names", "abc", TypeError, "class_names is 'abc', expected one name per class"),
    ],
)
def test_a_bad_assignment_changes_nothing(
    name: str, value: Any, error: type[Exception], message: str
) -> None:
    model = small_model()
    before = pickle.dumps(model)
    with pytest.raises(error, match=message):
        setattr(model, name, value)
    assert pickle.dumps(model) == before


@pytest.mark.parametrize("name", ["n_features", "n_classes", "dtype"])
def test_what_a_model_is_made_of_does_not_change(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(small_model(), name, 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_features": 0}, ValueError, "n_features is 0, expected at least 1"),
        ({"n_classes": -1}, ValueError, "n_classes is -1"),
        ({"n_classes": 2.0}, TypeError, "n_classes is a float"),
        ({"n_features": True}, TypeError, "n_features is a bool"),
        ({"dtype": "float16"}, TypeError, "dtype is float16, expected float32 or float64"),
        ({"seed": -1}, ValueError, "seed is -1, expected an integer of 0 or more"),
        ({"seed": "x"}, ValueError, "seed is 'x'"),
        ({"scale": 0}, ValueError, "scale is 0.0"),
        ({"class_names": ["a"]}, ValueError, "class_names has 1 names but n_classes is 3"),
        ({"feature_names": ["a"]}, ValueError, "feature_names has 1 names but n_features is"),
        ({"feature_names": "ab"}, TypeError, "feature_names is 'ab', expected one name per fea"),
    ],
)
def test_bad_arguments(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cs.SoftmaxRegression(**{"n_features": 6, "n_classes": 3, **options})


def test_a_whole_data_set_is_no_array() -> None:
    data = cs.Dataset(np.zeros((3, 6)), [0, 1, 2])
    model = cs.SoftmaxRegression(6, 3)
    for whole in (data, cs.DataLoader.from_dataset(data, 2), None):
        for method in (model.predict, model.predict_proba, model.decision_function, model):
            with pytest.raises(TypeError, match=f"X is a {type(whole).__name__}, expected an arr"):
                method(whole)


def test_class_names_of_any_kind() -> None:
    for names in (("a", "b", "c"), np.array(["a", "b", "c"]), iter("abc")):
        assert cs.SoftmaxRegression(6, 3, class_names=names).class_names == ("a", "b", "c")
    for nothing in (None, ()):
        assert cs.SoftmaxRegression(6, 3, class_names=nothing).class_names == ("0", "1", "2")


# ---------------------------------------------------------------- predictions


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "stored", [np.uint8, np.bool_, np.int32, np.float16, np.float32, np.float64]
)
def test_predictions_are_those_of_the_formula(isa: str, stored: Any, dtype: str) -> None:
    model = small_model(dtype, scale=0.25)
    X = np.random.default_rng(0).integers(0, 2 if stored == np.bool_ else 9, (40, 6)).astype(stored)
    scale = 0.25 if X.dtype.kind in "iub" else 1.0
    logits = reference.linear(X.astype(np.float64), model.W, model.b, scale=scale)
    tolerance: Any = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-12}
    for n_threads in (None, 1, 2):
        got = model.decision_function(X, n_threads=n_threads)
        assert got.dtype == dtype
        assert_allclose(got, logits, **tolerance)
        probs = model.predict_proba(X, n_threads=n_threads)
        assert_allclose(probs, reference.softmax(logits), **tolerance)
        assert_array_equal(model(X, n_threads=n_threads), probs)
        labels = model.predict(X, n_threads=n_threads)
        assert labels.dtype == np.int64
        assert_array_equal(labels, got.argmax(axis=1))


def test_images_lists_and_no_rows(isa: str) -> None:
    model = small_model(scale=1 / 255)
    X = np.random.default_rng(0).integers(0, 256, (5, 6), dtype=np.uint8)
    expected = model.decision_function(X)
    for images in (X.reshape(5, 2, 3), X.reshape(5, 1, 3, 2), X[:, ::-1][:, ::-1]):
        assert_array_equal(model.decision_function(images), expected)
    assert_allclose(model.decision_function(X.tolist()), expected, rtol=1e-5)
    assert model.predict(X[:0]).shape == (0,)
    assert model.predict_proba(X[:0].reshape(0, 2, 3)).shape == (0, 3)


def test_ties_and_nan_are_predicted_as_argmax_does(isa: str) -> None:
    model = cs.SoftmaxRegression(3, 3)
    model.W = np.eye(3)
    X = np.array([[1, 1, 0], [0, 2, 2], [0, 0, 0], [5, np.nan, 9]], np.float32)
    assert_array_equal(model.predict(X), [0, 1, 0, np.argmax(model.decision_function(X)[3])])


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((2, 5)), ValueError, "X has 5 features but the model has 6"),
        (np.zeros((2, 28, 28)), ValueError, "X has 784 features but the model has 6"),
        (np.zeros(6), ValueError, r"X has shape \(6,\), expected \(n_samples, n_features\)"),
        (np.zeros((2, 6), complex), TypeError, "X has dtype complex128"),
        ([["a"] * 6], TypeError, "X has dtype"),
        ([[1.0], [1.0, 2.0]], ValueError, "X cannot be made an array"),
    ],
)
def test_input_that_does_not_fit(X: Any, error: type[Exception], message: str) -> None:
    model = small_model()
    for method in (model, model.decision_function, model.predict_proba, model.predict):
        with pytest.raises(error, match=message):
            method(X)
        with pytest.raises(ValueError, match="n_threads is 0"):
            method(np.zeros((2, 6)), n_threads=0)


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1 / 255), ("float64", None)])
def test_save_and_load_are_bitwise(tmp_path: Path, dtype: str, scale: float | None) -> None:
    names = ("T-shirt/top", "裤子", 'with "quotes"\n')
    model = small_model(dtype, scale=scale, class_names=names)
    model.feature_names = [f"größe {j}" for j in range(model.n_features)]
    model.trained_with = {"solver": "lbfgs", "C": np.inf}
    model.W[0] = [np.nan, -0.0, 1e-40]
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = cs.SoftmaxRegression.load(str(path))
    for got, saved in ((loaded.W, model.W), (loaded.b, model.b)):
        assert got.dtype == dtype
        assert got.tobytes() == saved.tobytes()
    assert loaded.scale == model.scale
    assert loaded._scale == model._scale
    assert loaded.class_names == names
    assert loaded.feature_names == model.feature_names
    assert loaded.trained_with == model.trained_with
    loaded.W[1] = 0  # writable, and its own
    assert cs.SoftmaxRegression.load(path).W[1, 0] == model.W[1, 0]
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for index in range(8):
        small_model().save(tmp_path / str(index))
        digests.add(hashlib.sha256((tmp_path / str(index)).read_bytes()).digest())
    assert len(digests) == 1


def test_the_file_is_laid_out_as_in_pytorch(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    model = small_model()
    model.save(tmp_path / "m")
    tensors = load_file(tmp_path / "m")
    assert_array_equal(tensors["weight"], model.W.T)
    assert_array_equal(tensors["bias"], model.b)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "model.safetensors"
    small_model().save(path)
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="no space left"):
            cs.SoftmaxRegression(7, 2).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_places_where_no_model_can_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing: no such model file"):
        cs.SoftmaxRegression.load(tmp_path / "nothing")
    with pytest.raises(cs.DataError, match="expected a safetensors file, got a folder"):
        cs.SoftmaxRegression.load(tmp_path)
    with pytest.raises(OSError, match="directory"):
        small_model().save(tmp_path)
    with pytest.raises(FileNotFoundError):
        small_model().save(tmp_path / "no" / "folder")
    assert os.listdir(tmp_path) == []


GOOD: dict[str, Any] = {
    "format_version": 1, "scale": 0.5, "class_names": ["a", "b"], "csoftmax_version": "0.1.0",
}  # fmt: skip
FLOAT32 = {"weight": ("F32", [2, 3], 24), "bias": ("F32", [2], 8)}


def file_bytes(
    description: object = None,
    tensors: dict[str, tuple[str, list[int], int]] = FLOAT32,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """A safetensors file written by hand: the length of a JSON header, the header, the numbers."""
    text = description if isinstance(description, str) else json.dumps(description or GOOD)
    header: dict[str, Any] = {
        "__metadata__": {METADATA_KEY: text} if metadata is None else metadata
    }
    at = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(at)


def test_the_file_written_by_hand_is_good(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(file_bytes())
    model = cs.SoftmaxRegression.load(tmp_path / "m")
    assert model.W.shape == (3, 2)
    assert model.scale == 0.5
    assert model.class_names == ("a", "b")
    assert model.feature_names == ()  # of a file that is older than they are
    assert model.trained_with == {}


def tensors(**changed: Any) -> bytes:
    return file_bytes(tensors={**FLOAT32, **changed})


class _Bomb:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("unpickled",)


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "header too small"),
    "garbage": (bytes(range(256)) * 4, "expected a safetensors file"),
    "text": (b"W,b\n1,2\n" * 50, "expected a safetensors file"),
    "pickle": (pickle.dumps(_Bomb()), "expected a safetensors file"),
    "cut in the header": (file_bytes()[:60], "expected a safetensors file"),
    "cut in the numbers": (file_bytes()[:-1], "expected a safetensors file"),
    "trailing bytes": (file_bytes() + b"\0", "expected a safetensors file"),
    "huge header": (struct.pack("<Q", 2**63) + b"{}", "header too large"),
    "header beyond the end": (struct.pack("<Q", 90_000_000) + b"{}", "expected a safetensors file"),
    "header of brackets": (
        struct.pack("<Q", 50_000) + b"[" * 50_000,
        "expected a safetensors file",
    ),
    "no metadata": (file_bytes(metadata={}), "expected a model saved by csoftmax"),
    "another's metadata": (file_bytes(metadata={"format": "pt"}), "saved by csoftmax"),
    "metadata no JSON": (file_bytes("{scale"), "expected JSON of a model as metadata"),
    "metadata of brackets": (file_bytes("[" * 200_000), "expected JSON of a model as metadata"),
    "metadata a list": (file_bytes("[1]"), "expected a model saved by csoftmax"),
    "no tensors": (file_bytes(tensors={}), "with tensors weight and bias; got none"),
    "no bias": (file_bytes(tensors={"weight": FLOAT32["weight"]}), "weight and bias; got weight"),
    "a third tensor": (tensors(extra=("F32", [1], 4)), "got bias, extra, weight"),
    "weight 1-D": (tensors(weight=("F32", [6], 24)), r"expected weight .* got \(6,\) and \(2,\)"),
    "weight transposed": (tensors(weight=("F32", [3, 2], 24)), r"got \(3, 2\) and \(2,\)"),
    "bias 2-D": (tensors(bias=("F32", [2, 1], 8)), r"got \(2, 3\) and \(2, 1\)"),
    "no features": (tensors(weight=("F32", [2, 0], 0)), r"got \(2, 0\) and \(2,\)"),
    "no classes": (
        tensors(weight=("F32", [0, 3], 0), bias=("F32", [0], 0)),
        r"got \(0, 3\) and \(0,\)",
    ),
    "integers": (
        tensors(weight=("I32", [2, 3], 24), bias=("I32", [2], 8)),
        "got int32 and int32",
    ),
    "float16": (tensors(weight=("F16", [2, 3], 12), bias=("F16", [2], 4)), "got float16"),
    "bfloat16": (tensors(weight=("BF16", [2, 3], 12), bias=("BF16", [2], 4)), "bfloat16"),
    "float8": (tensors(weight=("F8_E4M3", [2, 3], 6), bias=("F8_E4M3", [2], 2)), "float8"),
    "mixed": (tensors(bias=("F64", [2], 16)), "got float32 and float64"),
    "offsets that overlap": (
        file_bytes().replace(b"[24, 32]", b"[23, 31]"),
        "expected a safetensors file",
    ),
    "shape that overflows": (
        tensors(weight=("F32", [2**62, 2**62], 24)),
        "expected a safetensors file",
    ),
}
for key in ("format_version", "scale", "class_names"):
    lacking = {name: value for name, value in GOOD.items() if name != key}
    BROKEN[f"lacks {key}"] = file_bytes(lacking), f"the metadata of the model lack '{key}'"
for key, value, message in [
    ("format_version", 2, "format version 2, not 1"),
    ("format_version", "1", "format version '1', not 1"),
    ("scale", 0, "scale is 0.0, expected a number > 0"),
    ("scale", -0.5, "scale is -0.5"),
    ("scale", float("nan"), "scale is nan"),
    ("scale", float("inf"), "scale is inf"),
    ("scale", 10**400, "scale is 1000"),
    ("scale", "0.5", "scale is a str"),
    ("class_names", ["a"], "class_names has 1 names but n_classes is 2"),
    ("class_names", ["a", 1], "not a list of names"),
    ("class_names", "ab", "not a list of names"),
    ("class_names", {"a": 0, "b": 1}, "not a list of names"),
    ("class_names", None, "not a list of names"),
    ("feature_names", ["a", "b"], "feature_names has 2 names but n_features is 3"),
    ("feature_names", ["a", "b", 1], "not a list of names"),
    ("feature_names", "abc", "not a list of names"),
]:
    BROKEN[f"{key} {str(value)[:20]}"] = file_bytes({**GOOD, key: value}), message


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    content, message = BROKEN[case]
    monkeypatch.chdir(tmp_path)
    Path("broken").write_bytes(content)
    with pytest.raises(cs.DataError, match=message) as caught:
        cs.SoftmaxRegression.load("broken")
    assert str(caught.value).startswith("broken: ")
    assert os.listdir(tmp_path) == ["broken"]  # nothing in the file was run


def test_every_truncation_and_flipped_byte_is_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "m"
    small_model(scale=1 / 255).save(path)
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(cs.DataError):
            cs.SoftmaxRegression.load(path)
    for index in range(len(good)):
        for mask in (0x01, 0x20, 0x80):
            path.write_bytes(good[:index] + bytes([good[index] ^ mask]) + good[index + 1 :])
            # a flipped bit of a number or a name is another model; all else is refused
            with contextlib.suppress(cs.DataError):
                cs.SoftmaxRegression.load(path)
