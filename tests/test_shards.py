"""Shards of .npy files: what they are, their labels, what is refused."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from shard_cases import LENGTHS, cut, table, write_npy

import csoftmax as cs
from csoftmax.data.readers.parts import files
from csoftmax.data.readers.parts.files import Kept, mapped, stamp_of


def labels_of(data: Any) -> Any:
    return np.concatenate([shard.labels(0, shard.n_rows) for shard in data.rows.shards])


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_npy_shards_are_views_of_files_in_natural_order(tmp_path: Path, dtype: Any) -> None:
    X, y = table(dtype)
    names, label_names = write_npy(tmp_path, X, y)
    data = cs.shards(names, labels=label_names)
    assert repr(data) == f"Shards(4 shards, X (15, 4) {np.dtype(dtype)}, labels)"
    assert [part.name for part in data.parts] == ["x-8.npy", "x-9.npy", "x-10.npy", "x-11.npy"]
    assert [part.n_rows for part in data.parts] == list(LENGTHS)
    assert_array_equal(data.rows.take(slice(None)), X)
    assert_array_equal(labels_of(data), y)
    for _, block in data.rows.blocks(3):
        assert block.dtype == dtype
        assert not block.flags.writeable
        assert not block.flags.owndata


@pytest.mark.parametrize("order", ["C", "F"])
def test_images_are_flattened(tmp_path: Path, order: Any) -> None:
    X = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    np.save(tmp_path / "images.npy", np.asarray(X, order=order))
    assert_array_equal(cs.shards(tmp_path / "images.npy").rows.take(slice(None)), X.reshape(4, 6))


def test_folders_of_maps_have_labels_and_weights(tmp_path: Path) -> None:
    X, y = table()
    for s, (rows, labels) in enumerate(zip(cut(X), cut(y), strict=True)):
        folder = tmp_path / f"run-{s}"
        folder.mkdir()
        np.save(folder / "X.npy", rows)
        np.save(folder / "y.npy", labels)
        np.save(folder / "weight.npy", labels + 1.0)
    data = cs.shards(f"{tmp_path}/run-*")
    assert repr(data) == "Shards(4 shards, X (15, 4) float32, labels, weights)"
    assert_array_equal(data.rows.take(slice(None)), X)
    assert_array_equal(labels_of(data), y)
    assert_array_equal(data.rows.shards[2].weights(1, 3), y[6:8] + 1.0)
    assert cs.shards(tmp_path / "run-3").n_rows == LENGTHS[3]


def test_a_folder_and_a_list_of_files(tmp_path: Path) -> None:
    X, y = table()
    write_npy(tmp_path, X, y)
    (tmp_path / "labels").mkdir()
    for path in tmp_path.glob("y-*.npy"):
        path.rename(tmp_path / "labels" / path.name)
    assert_array_equal(cs.shards(tmp_path, labels=tmp_path / "labels").rows.take(slice(None)), X)
    backwards = sorted(map(str, tmp_path.glob("x-*.npy")))  # x-10, x-11, x-8, x-9
    data = cs.shards(backwards)
    assert [part.n_rows for part in data.parts] == [7, 3, 5, 0]


def test_one_file_of_labels_and_an_array_of_weights(tmp_path: Path) -> None:
    X, y = table()
    names, _ = write_npy(tmp_path, X, y)
    np.save(tmp_path / "all.npy", y)
    data = cs.shards(names, labels=str(tmp_path / "all.npy"), weights=np.arange(15.0))
    assert_array_equal(labels_of(data), y)
    assert_array_equal(data.rows.shards[3].weights(1, 3), [13.0, 14.0])
    assert_array_equal(labels_of(cs.shards(names, labels=y)[2:]), y[5:])


def test_some_shards(tmp_path: Path) -> None:
    X, y = table()
    names, label_names = write_npy(tmp_path, X, y)
    data = cs.shards(names, labels=label_names)
    assert (len(data), data.shape) == (4, (15, 4))
    assert_array_equal(data[2:].rows.take(slice(None)), X[5:])
    assert_array_equal(data[-1].rows.take(slice(None)), X[12:])
    assert_array_equal(labels_of(data[[3, 0]]), np.concatenate([y[12:], y[:5]]))
    with pytest.raises(ValueError, match="none of the 4 shards"):
        data[4:]
    with pytest.raises(IndexError):
        data[4]


def test_a_pickle_has_places_and_no_data(tmp_path: Path) -> None:
    X = np.ones((20_000, 16), np.float32)
    for s in range(20):
        np.save(tmp_path / f"x-{s}.npy", X)
    data = cs.shards(f"{tmp_path}/x-*.npy")
    assert data.rows.take(np.array([3])).shape == (1, 16)  # opens files
    pickled = pickle.dumps(data)
    assert len(pickled) < 20 * 400
    again = pickle.loads(pickled)
    assert_array_equal(again.rows.take(np.array([39])), X[:1])
    assert again.rows.fingerprint() == data.rows.fingerprint()


def test_not_too_many_files_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_maps", Kept(4))
    for s in range(30):
        np.save(tmp_path / f"x-{s}.npy", np.full((2, 2), s, np.float32))
    data = cs.shards(f"{tmp_path}/x-*.npy")
    before = len(os.listdir("/proc/self/fd"))
    seen = [float(block[0, 0]) for _, block in data.rows.blocks(8192)]
    assert seen == list(range(30))
    assert len(os.listdir("/proc/self/fd")) - before <= 5


def test_classes_and_codes_of_the_smallest_type(tmp_path: Path) -> None:
    X, y = table()
    names, _ = write_npy(tmp_path, X, y)
    data = cs.shards(names, labels=y * 1000 - 7)
    classes, codes = data.encoded()
    assert_array_equal(classes, [-7, 993, 1993])
    assert codes.dtype == np.uint8
    assert_array_equal(codes, y)
    assert repr(data).endswith("3 classes)")
    texts = np.array(["cat", "dog", "elephant"])
    classes, codes = cs.shards(names, labels=texts[y]).encoded()
    assert_array_equal(classes, texts)
    assert_array_equal(codes, y)
    as_floats, codes = cs.shards(names, labels=y.astype(np.float32)).encoded()
    assert_array_equal(as_floats, [0, 1, 2])
    many = np.arange(15) + 300  # more than one byte counts: by number of classes
    assert cs.shards(names, labels=many).encoded()[1].dtype == np.uint8
    assert cs.shards(names, labels=many).encoded(np.arange(400))[1].dtype == np.uint16


def test_a_shard_of_one_class_is_fine(tmp_path: Path) -> None:
    X, _ = table()
    names, _ = write_npy(tmp_path, X, X[:, 0])
    y = np.repeat([4, 4, 9, 4], LENGTHS)
    classes, codes = cs.shards(names, labels=y).encoded()
    assert_array_equal(classes[codes], y)


def test_conversions_that_are_asked_for(tmp_path: Path) -> None:
    X, y = table(np.int64)
    names, _ = write_npy(tmp_path, X, y)
    np.save(tmp_path / "x-9.npy", X[:0].astype(np.float16))
    for dtype in (np.uint8, np.float16, np.float32, np.float64):
        data = cs.shards(names, dtype=dtype)
        assert data.dtype == dtype
        got = data.rows.take(slice(None))
        assert got.dtype == dtype
        assert_array_equal(got, X)
    np.save(tmp_path / "x-8.npy", X[:5].astype(">f4"))
    assert_array_equal(cs.shards(names, dtype="float32").rows.take(slice(None)), X)
    X[3, 2] = 256
    write_npy(tmp_path, X, y)
    with pytest.raises(cs.DataError, match=r"shard 0 \(x-8.npy\): row 3: feature 2 is 256, expect"):
        cs.shards(names, dtype=np.uint8).rows.take(slice(None))
    with pytest.raises(ValueError, match="dtype is int32, expected uint8, float16"):
        cs.shards(names, dtype="int32")


def test_booleans_are_bytes_without_a_copy(tmp_path: Path) -> None:
    X = np.arange(12).reshape(4, 3) % 2 == 0
    np.save(tmp_path / "x.npy", X)
    data = cs.shards(tmp_path / "x.npy")
    assert data.dtype == np.uint8
    ((_, block),) = data.rows.blocks(10)
    assert not block.flags.owndata
    assert_array_equal(block, X)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        (np.zeros((3, 512), np.float16),
         "shard 2 (x-10.npy): float16 with 512 features, expected float32 with 4 as in shard 0"),
        (np.zeros((3, 4)),
         "shard 2 (x-10.npy): float64 with 4 features, expected float32 with 4 as in shard 0"),
        (np.zeros((3, 4), np.int32),
         'shard 2 (x-10.npy): int32 with 4 features would be converted to float64 in each pass: '
         'say dtype="float64" to allow it, or store uint8, float16, float32, float64'),
        (np.zeros((3, 4), ">f4"),
         'shard 2 (x-10.npy): >f4 with 4 features would be converted to float64 in each pass: say '
         'dtype="float64" to allow it'),
        (np.zeros((3, 0), np.float32),
         "shard 2 (x-10.npy): expected at least one feature, got none"),
        (np.array([["a", "b"]]),
         "shard 2 (x-10.npy): expected booleans, integers or floats of at most 64 bits, got <U1"),
        (np.zeros((3, 4), complex),
         "x-10.npy: expected numbers or strings, got dtype complex128"),
        (np.zeros(3), "x-10.npy: expected an array (n_rows, n_features) or (n_rows, height, "
                      "width), got shape (3,)"),
    ],
)  # fmt: skip
def test_a_shard_that_differs_is_named(tmp_path: Path, shard: Any, message: str) -> None:
    names, _ = write_npy(tmp_path, *table())
    np.save(tmp_path / "x-10.npy", shard)
    with pytest.raises(cs.DataError, match=re.escape(message)):
        cs.shards(names)


def test_no_file_matches(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"source: no file matches .*: '.*' is empty"):
        cs.shards(f"{tmp_path}/x-*.npy")
    write_npy(tmp_path, *table())
    with pytest.raises(FileNotFoundError, match=r"has x-8.npy, x-9.npy, x-10.npy, \.\.\."):
        cs.shards(f"{tmp_path}/z-*.npy")
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*/nowhere'"):
        cs.shards(f"{tmp_path}/nowhere/z-*.npy")
    with pytest.raises(FileNotFoundError, match="labels: no file matches"):
        cs.shards(f"{tmp_path}/x-*.npy", labels=f"{tmp_path}/z-*.npy")
    with pytest.raises(TypeError, match="source is 3, expected a pattern"):
        cs.shards(3)  # type: ignore[arg-type]


def test_files_of_no_format_and_of_two(tmp_path: Path) -> None:
    names, _ = write_npy(tmp_path, *table())
    (tmp_path / "x-12.doc").write_text("?")
    with pytest.raises(cs.DataError, match=r"x-12.doc: expected one of \.npy"):
        cs.shards(f"{tmp_path}/x-*")
    with pytest.raises(ValueError, match=r"y is 'label', but \.npy files have no columns"):
        cs.shards(names, y="label")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(6, int), "expected 7 values, one for each row of shard 2 (x-10.npy), got 6"),
        (np.zeros((7, 1), int), "y-10.npy: expected one value for each row, got shape (7, 1)"),
    ],
)  # fmt: skip
def test_labels_of_another_length_or_shape(tmp_path: Path, labels: Any, message: str) -> None:
    names, label_names = write_npy(tmp_path, *table())
    np.save(tmp_path / "y-10.npy", labels)
    with pytest.raises(cs.DataError, match=re.escape(message)):
        cs.shards(names, labels=label_names)


def test_labels_that_do_not_fit_the_shards(tmp_path: Path) -> None:
    names, label_names = write_npy(tmp_path, *table())
    (tmp_path / "y-9.npy").unlink()
    with pytest.raises(cs.DataError, match=r"labels: 3 files match .*, expected 4, one for each"):
        cs.shards(names, labels=label_names)
    with pytest.raises(cs.DataError, match=r"expected 15 values, one for each row of all .* got 7"):
        cs.shards(names, labels=tmp_path / "y-10.npy")
    with pytest.raises(ValueError, match=r"labels has shape \(14,\), expected \(15,\)"):
        cs.shards(names, labels=np.zeros(14, int))
    with pytest.raises(ValueError, match="the shards have no labels: say labels="):
        cs.shards(names).encoded()
    with pytest.raises(cs.DataError, match=r"labels: .*: expected a \.npy file"):
        cs.shards(names, labels=__file__)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, 2, 3, 5] * 3),
         "shard 0 (x-8.npy): row 4 (row 4 of all): the label 5 is not one of the 4 classes"),
        (np.where(np.arange(15) == 13, np.nan, 1.0),
         "shard 3 (x-11.npy): row 1 (row 13 of all): expected a label that is an integer of 64 "
         "bits or text, got nan"),
        (np.where(np.arange(15) == 6, 0.5, 1.0),
         "shard 2 (x-10.npy): row 1 (row 6 of all): expected a label that is an integer"),
        (np.array(["b", "a", "c"] * 5),
         "shard 0 (x-8.npy): row 0 (row 0 of all): the label b is not one of the 4 classes"),
        (np.full(15, 2**63, np.uint64),
         "shard 0 (x-8.npy): row 0 (row 0 of all): expected a label that is an integer of 64 bits"),
        (np.array([b"\xff"] * 15),
         "shard 0 (x-8.npy): row 0 (row 0 of all): labels are not UTF-8 text"),
    ],
)  # fmt: skip
def test_a_label_that_is_none_or_unknown_is_named(
    tmp_path: Path, labels: Any, message: str
) -> None:
    names, _ = write_npy(tmp_path, *table())
    with pytest.raises(cs.DataError, match=re.escape(message)):
        cs.shards(names, labels=labels).encoded([0, 1, 2, 3])


def test_labels_of_two_kinds_are_refused(tmp_path: Path) -> None:
    names, label_names = write_npy(tmp_path, *table())
    np.save(tmp_path / "y-10.npy", np.array(list("abcdefg")))
    message = r"shard 2 \(x-10.npy\): row 0 \(row 5 of all\): expected labels that are numbers, as"
    with pytest.raises(cs.DataError, match=message):
        cs.shards(names, labels=label_names).encoded()
    with pytest.raises(ValueError, match="classes must be sorted"):
        cs.shards(names, labels=np.zeros(15, int)).encoded([1, 0])


def test_a_file_that_changes_after_it_was_opened(tmp_path: Path) -> None:
    X, y = table()
    names, label_names = write_npy(tmp_path, X, y)
    data = cs.shards(names, labels=label_names)
    data.rows.take(slice(None))  # all files are mapped
    path = tmp_path / "x-10.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    message = f"x-10.npy: .* has changed .*: expected {len(whole)} bytes, got {len(whole) - 1}"
    with pytest.raises(cs.DataError, match=message):
        data.rows.take(slice(None))
    path.write_bytes(whole)
    os.utime(path, ns=(0, 0))
    with pytest.raises(cs.DataError, match="another time of change; open the shards anew"):
        data.rows.take(slice(None))
    path.unlink()
    with pytest.raises(cs.DataError, match="was there when the shards were opened"):
        data.rows.take(slice(None))
    (tmp_path / "y-8.npy").unlink()
    with pytest.raises(cs.DataError, match=r"y-8\.npy: the file was there"):
        data.encoded()


def test_a_map_stays_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(range(16)))
    array = np.frombuffer(mapped(stamp_of(path)), np.uint8)
    path.unlink()
    assert array.tolist() == list(range(16))


def test_truncated_files_are_refused_whatever_is_left(tmp_path: Path) -> None:
    X, y = table()
    names, _ = write_npy(tmp_path, X, y)
    path = tmp_path / "x-8.npy"
    whole = path.read_bytes()
    for n in [*range(0, 130, 9), *range(128, len(whole), 7)]:
        path.write_bytes(whole[:n])
        with pytest.raises(cs.DataError, match=r"x-8.npy: byte \d+: expected"):
            cs.shards(names)
    path.write_bytes(whole + b"\0")
    with pytest.raises(cs.DataError, match=r"x-8.npy: byte 128: expected 80 bytes .* got 81 bytes"):
        cs.shards(names)
