"""NumPy files: memory-mapped, never unpickled, and no header believed."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csoftmax.data import DataError, open_npy, read_npy, read_npz

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 1, 0])


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header_bytes(header: str, version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode() + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text


def shape_header(shape: str, descr: str = "'<f4'") -> bytes:
    return header_bytes(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")


BROKEN_NPY = [
    (b"", "byte 0: expected a NumPy .npy header"),
    (b"not a NumPy file at all", "byte 0: expected a NumPy .npy header"),
    (b"\x93NUMPY\x01\x00", "byte 0: expected a NumPy .npy header"),
    (header_bytes("{'descr': "), "byte 0: expected a NumPy .npy header"),
    (header_bytes("(" * 3000), "byte 0: expected a NumPy .npy header"),
    (b"\x93NUMPY\x03\x00" + bytes(20), r"format version \(3, 0\)"),
    (b"\x93NUMPY\x09\x00" + bytes(20), r"format version \(9, 0\)"),
    (shape_header("(100, 100)") + bytes(8), "expected 40000 bytes of data .* 8"),
    (shape_header("(1, 1)") + bytes(8), "expected 4 bytes of data .* 8"),
    (shape_header(f"({2**62}, {2**62})"), "expected a possible shape"),
    (shape_header(f"(0, {2**62})"), "expected a possible shape"),
    (shape_header("(-2, 3)"), "expected a possible shape"),
    (npy_bytes(np.array([[{}, 1]], dtype=object)), "pickled Python objects"),
    (npy_bytes(np.zeros(2, [("a", "i4")])), "expected numbers or strings, got dtype"),
    (npy_bytes(np.zeros((2, 2), "M8[s]")), "expected numbers or strings, got dtype"),
    (npy_bytes(np.zeros((2, 2), "S0")).replace(b"|S1", b"|S0"), "got dtype"),
]


@pytest.mark.parametrize(("content", "message"), BROKEN_NPY)
def test_broken_npy(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "X.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        open_npy(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(("content", "message"), BROKEN_NPY)
def test_broken_npz_member(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", content)
        archive.writestr("y.npy", npy_bytes(Y))
    with pytest.raises(DataError, match=message) as error:
        read_npz(path)
    assert f"{path}: X" in str(error.value)


def test_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    np.save(tmp_path / "X.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="never loaded"):
        open_npy(tmp_path / "X.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", ">f8", "bool", "int64"])
def test_open_npy(tmp_path: Path, order: Any, dtype: str) -> None:
    array = np.asarray(X.astype(dtype), order=order)
    np.save(tmp_path / "a.npy", array)
    mapped = open_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(mapped, array)
    assert isinstance(mapped.base, np.memmap)
    assert type(mapped) is np.ndarray
    assert mapped.dtype == array.dtype
    assert mapped.flags.f_contiguous == (order == "F")
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


def test_open_npy_version_2_and_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(
        header_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }", (2, 0))
    )
    assert open_npy(path).shape == (0, 3)


def test_pair_in_a_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", np.array([[5], [-1], [-1], [5]], np.int8))
    for path in (tmp_path, tmp_path / "X.npy"):
        data = read_npy(path)
        assert isinstance(data.X.base, np.memmap)
        assert data.y.tolist() == [1, 0, 0, 1]
        assert data.class_names == ("-1", "5")
        assert data.scale == 1.0


def test_pair_of_paths(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", (X * 20).astype(np.uint8))
    np.save(tmp_path / "b.npy", np.array([b"z", b"\xc3\xa9", b"z", b"z"]))
    data = read_npy(tmp_path / "a.npy", tmp_path / "b.npy")
    assert data.class_names == ("z", "é")
    assert data.y.tolist() == [0, 1, 0, 0]
    assert data.scale == 1 / 255


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (X, Y[:3], "y.npy: expected 4 labels, one per sample of X in .*X.npy, got 3"),
        (X[:, 0], Y, r"X.npy: expected an array \(n_samples, n_features\) .* got shape \(4,\)"),
        (X[:0], Y[:0], "at least one sample"),
        (X.astype(np.complex64), Y, "dtype complex64"),
        (X.astype("U3"), Y, "X.npy: expected booleans, integers or floats"),
        (X, Y * 0, "at least two classes, got only '0'"),
        (X, Y + 0.5, "y.npy: sample 0: expected an integer label or a class name, got 0.5"),
        (X, np.array([0, 1, np.nan, 1]), "sample 2: .* got nan"),
        (X, np.array([0, 1, 1e30, 1]), r"sample 2: .* got 1e\+30"),
        (X, Y.astype(np.uint64) + np.uint64(2**63), "does not fit 64-bit integers"),
        (X, np.eye(4), r"y.npy: expected labels of shape \(n_samples,\), got \(4, 4\)"),
        (X, Y.astype(complex), "got dtype complex128"),
        (X, np.array([b"\xff", b"a", b"a", b"a"]), "not UTF-8"),
    ],
)
def test_pair_refused(tmp_path: Path, values: np.ndarray, labels: np.ndarray, message: str) -> None:
    np.save(tmp_path / "X.npy", values)
    np.save(tmp_path / "y.npy", labels)
    if values.dtype.kind == "c" or labels.dtype.kind == "c":
        message = "expected numbers or strings, got dtype"
    with pytest.raises(DataError, match=message):
        read_npy(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_not_finite_far_into_the_file(tmp_path: Path, bad: float, order: Any) -> None:
    array = np.zeros((3000, 1000), np.float16, order=order)
    array[2999, 17] = bad
    np.save(tmp_path / "X.npy", array)
    np.save(tmp_path / "y.npy", np.arange(3000) % 2)
    with pytest.raises(DataError, match=rf"got {bad} at \[2999, 17\]"):
        read_npy(tmp_path)


def test_missing_labels_file(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X)
    with pytest.raises(FileNotFoundError, match=r"y\.npy"):
        read_npy(tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "keys", [("X", "y"), ("x_train", "y_train"), ("X_train", "y_train"),
             ("train_images", "train_labels")]
)  # fmt: skip
def test_npz(tmp_path: Path, save: Any, keys: tuple[str, str]) -> None:
    save(tmp_path / "d.npz", **{keys[0]: np.asfortranarray(X), keys[1]: Y, "other": np.eye(2)})
    train, test = read_npz(tmp_path / "d.npz")
    np.testing.assert_array_equal(train.X, X)
    np.testing.assert_array_equal(train.y, Y)
    assert test is None


def test_npz_with_test_pair(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    names = np.array(["b", "a", "b", "a"])
    np.savez(path, x_train=X, y_train=names, x_test=X[:1], y_test=names[:1])
    train, test = read_npz(path)
    assert test is not None
    assert train.class_names == test.class_names == ("a", "b")
    assert test.y.tolist() == [1]
    np.savez(path, X=X, y=Y, X_test=X[:, :2], y_test=Y)
    with pytest.raises(DataError, match=r"X_test: expected samples of shape \(3,\)"):
        read_npz(path)
    np.savez(path, X=X, y=Y, X_test=X, y_test=Y + 1)
    with pytest.raises(DataError, match="y_test: sample 1: class '2' is not one of the 2"):
        read_npz(path)


def test_npz_lacks_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", X=X, labels=Y)
    with pytest.raises(DataError, match=r"expected the arrays X and y .* got X, labels"):
        read_npz(tmp_path / "d.npz")


def test_empty_npz_member(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", X=X[:0], y=Y[:0])
    with pytest.raises(DataError, match="at least one sample"):
        read_npz(tmp_path / "d.npz")


def spoil_size(content: bytearray) -> None:
    """Make the directory promise 1 GiB for the first member, as its header then must too."""
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 1 << 30)


def spoil_data(content: bytearray) -> None:
    at = content.index(b"X.npy") + 250
    content[at : at + 8] = b"\xff" * 8


def spoil_compression(content: bytearray) -> None:
    at = content.index(b"PK\x01\x02")
    content[at + 10 : at + 12] = struct.pack("<H", 14)


def encrypt(content: bytearray) -> None:
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1


def cut(content: bytearray) -> None:
    del content[-30:]


@pytest.mark.parametrize(
    ("spoil", "save", "message"),
    [
        (spoil_size, np.savez, "X: byte 128: expected .* the member has 1073741696 bytes"),
        (spoil_data, np.savez, "X: broken .npz member: Bad CRC"),
        (spoil_data, np.savez_compressed, "X: broken .npz member"),
        (spoil_compression, np.savez, "got compression type 14"),
        (encrypt, np.savez, "X: broken .npz member: .*encrypted"),
        (cut, np.savez, r"expected an .npz \(zip\) file"),
    ],
)
def test_broken_zip(tmp_path: Path, spoil: Any, save: Any, message: str) -> None:
    path = tmp_path / "d.npz"
    noise = np.random.default_rng(0).normal(size=(200, 3))
    save(path, X=noise, y=np.arange(200) % 2)
    content = bytearray(path.read_bytes())
    spoil(content)
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_npz(path)


def test_zip_member_that_ends_early(tmp_path: Path) -> None:
    # header and directory agree on 1 MB, the deflate stream has 1 kB
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        head = shape_header("(1000, 250)")
        noise = np.random.default_rng(0).bytes(1000)
        archive.writestr("X.npy", head + noise)
        archive.writestr("y.npy", npy_bytes(np.arange(1000) % 2))
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", len(head) + 1_000_000)
    path.write_bytes(content)
    with pytest.raises(DataError, match="X: "):
        read_npz(path)


def test_zip_member_beyond_any_deflate_ratio(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        head = shape_header(f"({1 << 20}, 256)")
        archive.writestr("X.npy", head + bytes(100))
        archive.writestr("y.npy", npy_bytes(Y))
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", len(head) + (1 << 30))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"X: .* compressed"):
        read_npz(path)


def test_not_a_zip(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(DataError, match=r"expected an .npz"):
        read_npz(tmp_path / "d.npz")
