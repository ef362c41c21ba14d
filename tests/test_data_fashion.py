"""Fashion-MNIST: where it is looked for, the cache, and the download from a local server."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csoftmax.data import (
    DataError,
    DataNotFoundError,
    dataset_locations,
    fashion_mnist,
    fashion_mnist_sample,
    read_idx,
    sample_folder,
)
from csoftmax.data.sets import cache, fashion

FULL = Path("/usr/share/datasets/fashion-mnist")
needs_full = pytest.mark.skipif(
    not (FULL / "train-images-idx3-ubyte.gz").exists(), reason="Fashion-MNIST is not installed"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own cache, no system folder, no network, no settings."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CSOFTMAX_OFFLINE", "1")
    monkeypatch.delenv("CSOFTMAX_DATA_HOME", raising=False)
    monkeypatch.setattr(fashion, "SYSTEM_FOLDER", tmp_path / "system")
    return tmp_path


@pytest.fixture
def small(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundled sample stands for the full data: its shapes and checksums are the right ones."""
    files = {}
    for key, file in fashion.FILES.items():
        path = sample_folder() / f"{file.name}.gz"
        values = read_idx(path)
        files[key] = fashion.SourceFile(
            file.name,
            values.shape,
            hashlib.sha256(path.read_bytes()).hexdigest(),
            hashlib.sha256(values.tobytes()).hexdigest(),
        )
    monkeypatch.setattr(fashion, "FILES", files)
    return home


class Server:
    """A folder served on 127.0.0.1, and the names that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        folder.mkdir()
        for path in sample_folder().glob("*.gz"):
            shutil.copy(path, folder)
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def log_request(self, code: Any = "-", size: Any = "-") -> None:
                asked.append(self.path.removeprefix("/"))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        handler = partial(Handler, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def servers(small: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    pair = [Server(small / "official"), Server(small / "mirror")]
    monkeypatch.setattr(fashion, "BASE_URLS", tuple(server.url for server in pair))
    monkeypatch.delenv("CSOFTMAX_OFFLINE")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield pair
    for server in pair:
        server.stop()


def unpack(folder: Path, *, packed: bool = True) -> Path:
    """Put the four files into a folder, as .gz or plain."""
    folder.mkdir(parents=True)
    for path in sample_folder().glob("*.gz"):
        if packed:
            shutil.copy(path, folder)
        else:
            (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return folder


def check(data: Any) -> None:
    train, test = data
    expected = fashion_mnist_sample()
    for got, want in zip((train, test), expected, strict=True):
        np.testing.assert_array_equal(got.X, want.X)
        np.testing.assert_array_equal(got.y, want.y)
        assert got.class_names == want.class_names


def is_cached(data: Any) -> bool:
    """Arrays from the cache cannot be written."""
    return not any(part.X.flags.writeable for part in data)


# ---------------------------------------------------------------- the full data
@needs_full
def test_installed_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CSOFTMAX_OFFLINE", "1")
    monkeypatch.delenv("CSOFTMAX_DATA_HOME", raising=False)
    for _ in range(2):
        train, test = fashion_mnist()
        assert is_cached((train, test))
    assert (train.X.shape, test.X.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert np.bincount(train.y).tolist() == [6000] * 10
    assert np.bincount(test.y).tolist() == [1000] * 10
    assert train.y[:5].tolist() == [9, 0, 0, 3, 0]
    assert (train.scale, train.class_names[0]) == (1 / 255, "T-shirt/top")


# ---------------------------------------------------------------- where it is looked for
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["root", "CSOFTMAX_DATA_HOME", "cache", "system"])
@pytest.mark.parametrize("below", ["", "fashion-mnist", "FashionMNIST/raw"])
def test_places(
    small: Path, monkeypatch: pytest.MonkeyPatch, place: str, packed: bool, below: str
) -> None:
    folder = small / ("cache/csoftmax" if place == "cache" else place)
    unpack(folder / below, packed=packed)
    if place == "CSOFTMAX_DATA_HOME":
        monkeypatch.setenv(place, str(folder))
    root = folder if place == "root" else None
    data = fashion_mnist(root)
    check(data)
    assert is_cached(data)


def test_order_of_places(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def note(key: str, path: Path) -> np.ndarray:
        read.append(path.parent)
        return read_idx(path)

    monkeypatch.setattr(fashion, "_read_checked", note)
    system = unpack(small / "system")
    fashion_mnist()
    assert set(read) == {system}
    read.clear()
    fashion_mnist()
    assert read == []
    own = unpack(small / "own")
    monkeypatch.setenv("CSOFTMAX_DATA_HOME", str(own))
    fashion_mnist()
    assert set(read) == {own}
    read.clear()
    root = unpack(small / "root")
    fashion_mnist(root)
    assert set(read) == {root}


def test_incomplete_folder_is_passed_over(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = unpack(small / "own")
    (own / "t10k-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setenv("CSOFTMAX_DATA_HOME", str(own))
    unpack(small / "system")
    with pytest.warns(UserWarning, match="_HOME=.*own: lacks t10k-labels-idx1") as told:
        check(fashion_mnist())
    assert told[0].filename == __file__
    monkeypatch.setenv("CSOFTMAX_DATA_HOME", str(small / "nowhere"))
    with pytest.warns(UserWarning, match="nowhere: no such folder; Fashion-MNIST is looked for el"):
        check(fashion_mnist())


def test_root_without_files(home: Path) -> None:
    (home / "root").mkdir()
    with pytest.raises(DataNotFoundError) as error:
        fashion_mnist(home / "root")
    assert str(error.value) == (
        f"root {home / 'root'}: lacks train-images-idx3-ubyte[.gz], "
        "train-labels-idx1-ubyte[.gz], t10k-images-idx3-ubyte[.gz], t10k-labels-idx1-ubyte[.gz]"
    )


def test_root_lacks_one_file(small: Path) -> None:
    root = unpack(small / "root")
    (root / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFoundError, match=r"lacks t10k-labels-idx1-ubyte\[.gz\]$"):
        fashion_mnist(root)


def test_nothing_found_offline(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSOFTMAX_DATA_HOME", str(home / "own"))
    (home / "own").mkdir()
    with pytest.raises(DataNotFoundError) as error, pytest.warns(UserWarning, match="_DATA_HOME"):
        fashion_mnist()
    message = str(error.value)
    for part in (
        f"CSOFTMAX_DATA_HOME: {home / 'own'} lacks train-images-idx3-ubyte[.gz]",
        f"user cache: {home / 'cache/csoftmax'} no such folder",
        f"system: {home / 'system'} no such folder",
        "download: switched off by CSOFTMAX_OFFLINE",
        "1. install it: sudo apt install dataset-fashion-mnist",
        "2. put the four files (train-images-idx3-ubyte, ",
        "3. go online",
    ):
        assert part in message


def test_locations(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {location.where: location for location in dataset_locations()}
    assert found["CSOFTMAX_DATA_HOME"] == ("CSOFTMAX_DATA_HOME", None, False, "is not set")
    assert found["system"].detail == "no such folder"
    assert found["bundled sample"] == ("bundled sample", sample_folder(), True, "four IDX files")
    unpack(small / "system")
    fashion_mnist()
    found = {location.where: location for location in dataset_locations()}
    assert found["system"][2:] == (True, "four IDX files")
    assert found["user cache"][2:] == (True, "cached arrays")


# ---------------------------------------------------------------- wrong contents
def test_other_data_of_the_right_shape(small: Path) -> None:
    root = unpack(small / "root", packed=False)
    path = root / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected the values of Fashion-MNIST .SHA-256"):
        fashion_mnist(root)
    assert not (small / "cache").exists()


def test_other_data_of_another_shape(home: Path) -> None:
    with pytest.raises(DataError, match=r"expected \(60000, 28, 28\) uint8 .* got \(6000, 28, 28"):
        fashion_mnist(sample_folder())


def test_changed_root_is_checked_anew(small: Path) -> None:
    root = unpack(small / "root")
    check(fashion_mnist(root))
    path = root / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz: broken gzip file"):
        fashion_mnist(root)


# ---------------------------------------------------------------- the cache
@pytest.mark.parametrize("damage", ["cut", "gone", "type"])
def test_damaged_cache_is_made_anew(small: Path, damage: str) -> None:
    root = unpack(small / "root")
    fashion_mnist(root)
    path = small / "cache/csoftmax/t10k-images.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "gone":
        path.unlink()
    else:
        np.save(path, np.zeros((1000, 28, 28), np.int8))
    data = fashion_mnist(root)
    check(data)
    assert is_cached(data)


def test_cache_that_cannot_be_written(small: Path) -> None:
    (small / "cache").write_text("a file where the folder should be")
    root = unpack(small / "root")
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        data = fashion_mnist(root)
    check(data)
    assert not is_cached(data)


def test_failed_write_leaves_nothing_behind(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    root = unpack(small / "root")
    with pytest.warns(RuntimeWarning, match="No space left"):
        check(fashion_mnist(root))
    assert list((small / "cache/csoftmax").iterdir()) == []


def test_user_without_home(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for an unknown user
    assert cache.user_cache_folder() is None
    assert dataset_locations()[1].detail == "no home folder"
    with pytest.warns(RuntimeWarning, match="no home folder"):
        check(fashion_mnist(unpack(small / "root")))


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.user_cache_folder() == tmp_path / ".cache/csoftmax"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache.user_cache_folder() == tmp_path / "elsewhere/csoftmax"


@needs_full
def test_processes_that_start_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = (
        "from csoftmax.data import fashion_mnist; import numpy as np;"
        f"train, test = fashion_mnist({str(FULL)!r}); print(int(train.X.sum(dtype=np.int64)))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    sums = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(set(sums)) == 1
    assert all(path.suffix == ".npy" or path.name.startswith("checked-")
               for path in (tmp_path / "csoftmax").iterdir())  # fmt: skip


# ---------------------------------------------------------------- download
def test_download(servers: list[Server], capsys: pytest.CaptureFixture[str]) -> None:
    check(fashion_mnist())
    official, mirror = servers
    assert sorted(official.asked) == sorted(f"{file.name}.gz" for file in fashion.FILES.values())
    assert mirror.asked == []
    shown = capsys.readouterr()
    assert "100%" in shown.err  # the progress bar
    assert shown.out == ""
    check(fashion_mnist())
    assert len(official.asked) == 4


def test_wrong_checksum_falls_to_the_mirror(servers: list[Server], small: Path) -> None:
    official, mirror = servers
    (official.folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"a login page")
    check(fashion_mnist())
    assert "t10k-images-idx3-ubyte.gz" in mirror.asked
    # the place that was wrong once is not asked for the last file
    assert "t10k-labels-idx1-ubyte.gz" not in official.asked
    left = {path.name for path in (small / "cache/csoftmax").glob("*.gz")}
    assert left == {f"{file.name}.gz" for file in fashion.FILES.values()}


def test_dead_server_falls_to_the_mirror(servers: list[Server]) -> None:
    servers[0].stop()
    check(fashion_mnist())
    assert len(servers[1].asked) == 4


def test_download_resumes_with_the_files_that_are_there(servers: list[Server]) -> None:
    official = servers[0]
    for server in servers:
        (server.folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFoundError):
        fashion_mnist()
    official.asked.clear()
    shutil.copy(sample_folder() / "t10k-labels-idx1-ubyte.gz", official.folder)
    check(fashion_mnist())
    assert official.asked == ["t10k-labels-idx1-ubyte.gz"]


def test_both_fail(servers: list[Server], small: Path) -> None:
    official, mirror = servers
    (official.folder / "train-images-idx3-ubyte.gz").write_bytes(b"wrong")
    (mirror.folder / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataNotFoundError) as error:
        fashion_mnist()
    message = str(error.value)
    assert f"download: {official.url}train-images-idx3-ubyte.gz: SHA256 hash" in message
    assert f"download: {mirror.url}train-images-idx3-ubyte.gz: 404" in message
    assert "Three ways to get it" in message
    assert not list((small / "cache/csoftmax").glob("*"))


def test_download_without_a_cache(servers: list[Server], small: Path) -> None:
    (small / "cache").write_text("a file where the folder should be")
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        check(fashion_mnist())


def test_no_warning_where_all_is_well(small: Path) -> None:
    unpack(small / "system")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(fashion_mnist())
        check(fashion_mnist())
