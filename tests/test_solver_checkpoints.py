"""A fit that is interrupted and taken up again ends with the same bits."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from solver_cases import InterruptedPass, same_bits, table
from threadpoolctl import threadpool_limits

import csoftmax as cs
from csoftmax.data import DataError
from csoftmax.solver import ConvergenceWarning, minimize

pytestmark = pytest.mark.usefixtures("either_way")


@pytest.mark.parametrize("path", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
def test_resumed_to_the_same_bits(
    path: bool, sampled: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if sampled:
        request.getfixturevalue("small_sample")
    X, y = table(400, 8, 4)
    X = X.astype(np.float32)
    options: dict[str, Any] = {"C": [0.1, 1.0, 10.0], "path": path, "tol": 1e-6}
    whole = minimize(X, y, 4, **options)
    file = tmp_path / "state.safetensors"
    for n, parts in itertools.product((2, 4, 6, 8), (False, True)):
        file.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            InterruptedPass(patch, n + 4 * sampled)
            with pytest.warns(ConvergenceWarning, match="interrupted"):
                minimize(X, y, 4, checkpoint=file, checkpoint_every=0 if parts else 60, **options)
        if n == 2:  # a pass over all rows
            assert file.exists() or sampled
        resumed = minimize(X, y, 4, checkpoint=file, **options)
        assert same_bits(resumed, whole)
        assert np.array_equal(resumed.passes, whole.passes)
        for ours, theirs in zip(resumed.history, whole.history, strict=True):
            assert ours["objective"] == theirs["objective"]


def test_resumed_to_the_same_bits_where_blas_would_use_its_threads(tmp_path: Path) -> None:
    """A decomposition that is large enough for several; float32 would hide the rounding."""
    X, y = table(2000, 300, 10)
    options: dict[str, Any] = {"tol": 1e-8, "preconditioner": "full"}
    file = tmp_path / "state.safetensors"
    with warnings.catch_warnings(), threadpool_limits(2, "blas"):
        warnings.simplefilter("ignore")
        whole = minimize(X, y, 10, **options)
        minimize(X, y, 10, checkpoint=file, **{**options, "max_iter": 5})
        assert same_bits(minimize(X, y, 10, checkpoint=file, **options), whole)


def test_a_finished_checkpoint_is_taken_further(tmp_path: Path) -> None:
    X, y = table()
    file = tmp_path / "state.safetensors"
    minimize(X, y, 3, tol=1e-2, checkpoint=file)
    further = minimize(X, y, 3, tol=1e-8, checkpoint=file)
    assert same_bits(further, minimize(X, y, 3, tol=1e-8))
    assert same_bits(further, minimize(X, y, 3, tol=1e-8, checkpoint=file))


def test_a_checkpoint_of_another_problem_is_refused(tmp_path: Path) -> None:
    X, y = table()
    file = tmp_path / "state.safetensors"
    minimize(X, y, 3, checkpoint=file)
    content = file.read_bytes()
    other = X.copy()
    other[-1, -1] += 1e-9
    for arguments, options in (
        ((other, y), {}),
        ((X, (y + 1) % 3), {}),
        ((X, y), {"C": 2.0}),
        ((X, y), {"sample_weight": np.ones(len(y))}),
        ((X, y), {"history_size": 4}),
        ((X, y), {"W": np.ones((1, 3, 6))}),
    ):
        with pytest.raises(DataError, match="of another problem"):
            minimize(*arguments, 3, checkpoint=file, **options)  # type: ignore[arg-type]
        assert file.read_bytes() == content
    file.write_bytes(b"something else")
    with pytest.raises(DataError, match="expected a checkpoint"):
        minimize(X, y, 3, checkpoint=file)
    cs.SoftmaxRegression(3, 2).save(file)
    with pytest.raises(DataError, match="expected a checkpoint of the solver"):
        minimize(X, y, 3, checkpoint=file)


def test_a_checkpoint_of_an_older_format_is_refused(tmp_path: Path) -> None:
    X, y = table()
    file = tmp_path / "state.safetensors"
    description = json.dumps({"problem": "0" * 32, "heads": []})  # as format 4 had it
    save_file({"0.x": np.zeros(21)}, file, {"csoftmax.solver": description})
    content = file.read_bytes()
    with pytest.raises(DataError, match=r"has format 4 or older, expected format \d+: .* Delete"):
        minimize(X, y, 3, checkpoint=file)
    assert file.read_bytes() == content
