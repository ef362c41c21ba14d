"""The bundled sample: what is in it, and that the committed script makes it."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from csoftmax.data import fashion_mnist_sample, sample_folder
from tools import make_sample

FULL = Path("/usr/share/datasets/fashion-mnist")


def test_sample() -> None:
    train, test = fashion_mnist_sample()
    assert train.X.shape == (6000, 28, 28)
    assert test.X.shape == (1000, 28, 28)
    assert train.X.dtype == np.uint8
    assert train.X.flags.writeable
    assert train.scale == 1 / 255
    assert train.n_classes == 10
    assert train.class_names[9] == "Ankle boot"
    assert train.name == "fashion-mnist sample train"


def test_sample_is_small_and_licensed() -> None:
    size = sum(path.stat().st_size for path in sample_folder().glob("*.gz"))
    assert size <= make_sample.MAX_BYTES
    assert "Zalando SE" in (sample_folder() / "LICENSE").read_text()


@pytest.mark.slow  # it packs two samples of the full data
@pytest.mark.skipif(
    not (FULL / "train-images-idx3-ubyte.gz").exists(), reason="Fashion-MNIST is not installed"
)
def test_sample_is_made_by_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        assert make_sample.main(["--root", str(FULL), "--out", str(folder)]) == 0
    assert "bytes" in capsys.readouterr().out
    for path in sample_folder().glob("*.gz"):
        first, second = ((folder / path.name).read_bytes() for folder in folders)
        assert first == second
        assert gzip.decompress(first) == gzip.decompress(path.read_bytes())
