"""IDX files: what is read back, and every way in which one can be broken."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from csoftmax.data import DataError, read_idx, read_idx_folder, sample_folder, write_idx

IMAGES = np.arange(6 * 2 * 3, dtype=np.uint8).reshape(6, 2, 3)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)


def idx_bytes(code: int, shape: tuple[int, ...], data: bytes) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data


def write_folder(folder: Path, images: np.ndarray = IMAGES, labels: np.ndarray = LABELS) -> Path:
    write_idx(folder / "train-images-idx3-ubyte.gz", images)
    write_idx(folder / "train-labels-idx1-ubyte", labels)
    return folder


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("name", ["plain", "packed.gz"])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4), (2, 1, 2, 3), (0, 4)])
def test_round_trip(tmp_path: Path, dtype: str, name: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape)).reshape(shape) - 3).astype(dtype)
    write_idx(tmp_path / name, array)
    back = read_idx(tmp_path / name)
    assert back.dtype == array.dtype
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, array)


def test_header_is_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(idx_bytes(0x0B, (2,), b"\x01\x02\xff\xfe"))
    np.testing.assert_array_equal(read_idx(path), np.array([258, -2], np.int16))


def test_gzip_bytes_are_reproducible(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, IMAGES)
    first = (tmp_path / "a.gz").read_bytes()
    assert first == (tmp_path / "b.gz").read_bytes()
    assert first[3] == 0  # no name in the header
    assert first[4:8] == bytes(4)  # and no time


def test_write_refuses(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="array has dtype int64"):
        write_idx(tmp_path / "x", np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="1 to 8 dimensions, got 0"):
        write_idx(tmp_path / "x", np.array(3, np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "magic number of 4 bytes, got 0 bytes"),
        (b"\0\0\x08", "magic number of 4 bytes, got 3 bytes"),
        (b"\x12\x34\x56\x78" + bytes(20), "byte 0: expected an IDX magic .* got 0x12345678"),
        (idx_bytes(0x0A, (1,), b"\0"), "got 0x00000a01"),
        (b"\0\0\x08\0", "got 0x00000800"),
        (b"\0\0\x08\x09" + bytes(36), "got 0x00000809"),
        (b"\0\0\x08\x03" + bytes(5), "byte 4: expected 12 bytes .* 3 dimensions, got 5"),
        (idx_bytes(0x08, (2, 3), bytes(5)), "byte 17: expected 6 bytes .*2 x 3 uint8.* only 5"),
        (idx_bytes(0x08, (2, 3), bytes(7)), "byte 18: expected 6 bytes .* trailing bytes"),
        (idx_bytes(0x0E, (2**32 - 1,) * 8, b""), "byte 36: .* can hold at most 36 bytes"),
        (idx_bytes(0x08, (0, *(2**32 - 1,) * 7), b""), "byte 36: .* can hold at most"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_broken_file(tmp_path: Path, content: bytes, message: str, packed: bool) -> None:
    path = tmp_path / "broken"
    path.write_bytes(gzip.compress(content) if packed else content)
    if packed:
        message = message.partition(" can hold")[0]  # the limit differs
    if packed and "only" not in message and "at most" in message:
        message = "expected"
    with pytest.raises(DataError, match=message) as error:
        read_idx(path)
    assert str(path) in str(error.value)


def test_declared_size_beyond_any_deflate_ratio(tmp_path: Path) -> None:
    path = tmp_path / "claim.gz"
    path.write_bytes(gzip.compress(idx_bytes(0x08, (2**31, 2**20), bytes(1000))))
    with pytest.raises(DataError, match="can hold at most"):
        read_idx(path)


@pytest.mark.parametrize(
    "spoil", ["truncated", "corrupt", "checksum", "longer", "magic", "garbage after"]
)
def test_broken_gzip(tmp_path: Path, spoil: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8)
    content = bytearray(idx_bytes(0x08, (5000,), noise.tobytes()))
    if spoil == "longer":  # as wrongly inflated data often are
        content += b"more"
    elif spoil == "magic":
        content[2] ^= 0x80
    good = bytearray(gzip.compress(content))
    if spoil == "truncated":
        good = good[:2000]
    elif spoil == "corrupt":
        good[10:14] = b"\xff\xff\xff\xff"
    elif spoil in ("checksum", "longer", "magic"):
        good[-8] ^= 1
    else:
        good += b"garbage"
    path = tmp_path / "broken.gz"
    path.write_bytes(good)
    with pytest.raises(DataError, match="broken gzip file"):
        read_idx(path)


def test_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb") as file:
        file.write(idx_bytes(0x08, (1000,), b""))
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"byte 1008: expected 1000 bytes .* trailing bytes"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")


def test_folder(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "README.txt").write_text("images and labels")
    train, test = read_idx_folder(tmp_path)
    assert test is None
    np.testing.assert_array_equal(train.X, IMAGES)
    np.testing.assert_array_equal(train.y, LABELS)
    assert train.scale == 1 / 255
    assert train.class_names == ("0", "1", "2")


def test_folder_with_test_part_and_other_labels(tmp_path: Path) -> None:
    write_idx(tmp_path / "emnist-train-images.idx3-ubyte", IMAGES.astype(np.float32))
    write_idx(tmp_path / "emnist-train-labels.idx1-ubyte", (LABELS + 1).astype(np.int32))
    write_idx(tmp_path / "emnist-test-images.idx3-ubyte", IMAGES[:1].astype(np.float32))
    write_idx(tmp_path / "emnist-test-labels.idx1-ubyte", np.array([3], np.int32))
    train, test = read_idx_folder(tmp_path)
    assert test is not None
    assert train.scale == 1.0
    assert train.class_names == test.class_names == ("1", "2", "3")
    assert test.y.tolist() == [2]


def test_folder_with_only_a_test_part(tmp_path: Path) -> None:
    write_idx(tmp_path / "t10k-images-idx3-ubyte", IMAGES)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", LABELS)
    data, test = read_idx_folder(tmp_path)
    assert len(data) == 6
    assert test is None


def test_plain_file_wins_over_gz(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", LABELS[:3])
    assert len(read_idx_folder(tmp_path)[0]) == 6


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:5], "train-labels.*: expected 6 labels.* got 5"),
        (IMAGES, IMAGES, "train-labels.*: byte 3: expected labels .* got 3 dimensions"),
        (LABELS, LABELS, "train-images.*: byte 3: expected images .* got 1 dimension"),
        (IMAGES[:0], LABELS[:0], r"at least one sample and one feature, got \(0, 2, 3\)"),
        (IMAGES[:, :0], LABELS, "at least one sample and one feature"),
        (IMAGES, LABELS * 0, "at least two classes, got only '0'"),
        (IMAGES, LABELS + np.float32(0.5), "sample 0: expected an integer label .* got 0.5"),
        (np.where(IMAGES == 9, np.float32("nan"), 1), LABELS, r"got nan at \[1, 1, 0\]"),
    ],
)
def test_folder_refused(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, message: str
) -> None:
    write_folder(tmp_path, images, labels)
    with pytest.raises(DataError, match=message):
        read_idx_folder(tmp_path)


def test_folder_lacks_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected IDX files of images and labels, got none"):
        read_idx_folder(tmp_path)
    write_folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match="expected train images beside train-labels-idx1-ubyte"):
        read_idx_folder(tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte", IMAGES)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="expected train labels beside train-images-idx3-ubyte"):
        read_idx_folder(tmp_path)


def test_folder_ambiguous(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_idx(tmp_path / "letters-train-labels-idx1-ubyte", LABELS)
    with pytest.raises(DataError, match=r"one IDX file of train labels, got letters-.* and train-"):
        read_idx_folder(tmp_path)


def test_folder_test_part_does_not_fit(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", IMAGES[:, :1])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", LABELS)
    with pytest.raises(DataError, match=r"shape \(2, 3\), as in the train part, got \(1, 3\)"):
        read_idx_folder(tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", LABELS + np.uint8(1))
    with pytest.raises(DataError, match="sample 2: class '3' is not one of the 3 known classes"):
        read_idx_folder(tmp_path)


def test_sample_files_are_stratified() -> None:
    train, test = read_idx_folder(sample_folder())
    assert test is not None
    assert np.bincount(train.y).tolist() == [600] * 10
    assert np.bincount(test.y).tolist() == [100] * 10
