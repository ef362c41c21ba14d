"""The benchmark of rows in files and on a cluster: it runs whole, on little of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csoftmax.bench import Options, main, measure, peers, scale, scale_dask, scale_formats
from csoftmax.bench.run import names_of
from csoftmax.bench.session import Session

pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def _no_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (measure, scale_dask):
        monkeypatch.setattr(module, "REST_SECONDS", 0.0)
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 0.0)


def test_scale_measures_it_all_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "is_installed", lambda name: name != "dask_ml")
    options = Options(
        scale=True, quick=True, rounds=1, folder=tmp_path, json=tmp_path / "told.json"
    )
    run = main(options)
    assert [path.name for path in tmp_path.iterdir()] == ["told.json"]
    table = capsys.readouterr().out
    names = list(names_of(options.session))
    for name in names:
        if not name.startswith("scale/dask-ml"):
            assert run.find(name) is not None, name
            assert f"\n{name}" in table
    assert run.missing == {"dask-ml": "not installed"}
    facts = {result.name: result.facts for result in run.results}
    assert all(
        0 < some["error"] < 1e-5 for name, some in facts.items() if name.startswith("scale/tree")
    )
    (memory,) = run.find("scale/memory").sides.values()  # type: ignore[union-attr]
    assert 0 < memory.min < 100e6
    (of_passes,) = (some for name, some in facts.items() if name.startswith("scale/passes"))
    assert 2 <= of_passes["passes to 0.01"] <= of_passes["passes to 0.0001"] <= 6
    assert of_passes["passes to 0.0001"] < of_passes["passes to 0.0001 without"]
    (stops,) = (some for name, some in facts.items() if name.startswith("scale/stops"))
    assert 0 < stops["passes, tol sampling"] < stops["passes, tol 1e-06"]
    cold = run.find("scale/cold")
    assert cold is not None
    assert set(cold.sides) == {"csoftmax", "read", "cold, a map", "hot, shards", "hot, a map"}
    slow = {name for name, some in facts.items() if "GB/s decoded" in some}
    assert {name.removeprefix("scale/shards ") for name in slow} >= {"Arrow zstd", "Parquet lists"}


def test_a_pass_over_other_rows_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(path: Path, rows: Any) -> None:
        np.save(path.with_suffix(".npy"), rows ^ 1)

    monkeypatch.setitem(scale_formats.WRITERS, "npy", save)
    with pytest.raises(measure.WrongResultError, match="csoftmax: off by"):
        list(scale_formats.hot_pass(Session([], 1, quick=True, scale=True), "npy"))


def test_without_pyarrow_its_formats_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "is_installed", lambda name: name != "pyarrow")
    session = Session([], 1, quick=True, scale=True)
    assert list(scale_formats.hot_pass(session, "Parquet bytes")) == []
    assert session.missing == {"pyarrow": "not installed: Arrow and Parquet are left out"}


def test_a_gradient_of_float64_has_the_smallest_error() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 4)), rng.integers(0, 3, 300)
    W = rng.normal(size=(1, 3, 4))
    p = np.exp(X @ W[0].T)
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(300), y] -= 1
    dW = (p.T @ X)[None]
    assert scale.error_of(X, y, W, dW) < 1e-14
    assert scale.error_of(X, y, W, 1.001 * dW) == pytest.approx(
        1e-3 * (np.abs(dW[0]) / (np.abs(p).T @ np.abs(X))).max()
    )


def test_a_folder_without_room_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gigabytes is 1e\+09, but .* has room for"):
        Options(scale=True, gigabytes=1e9, folder=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"folder is .*nowhere, expected one that is there"):
        Options(scale=True, folder=tmp_path / "nowhere")
