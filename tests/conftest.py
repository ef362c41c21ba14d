"""Fixtures that the test modules share."""

from __future__ import annotations

import importlib.util
import inspect
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

collect_ignore = ["book"]  # programs of the book's readers, which test_book_*.py run


def pytest_configure() -> None:
    # Idle threads of OpenBLAS spin: they took two thirds of the time of the fits in these tests.
    # It reads this when it is loaded, so nothing here may import NumPy before.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A background job of a shell starts with Ctrl-C ignored, and its children would inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _kernels() -> Any:
    return importlib.import_module("csoftmax._kernels")


@pytest.fixture(scope="session", autouse=True)
def _together() -> None:
    """Threads wait for each other however busy the machine is, or there would be none to test."""
    if importlib.util.find_spec("csoftmax._kernels"):
        _kernels().wait_at_most(1e9)
        # The CPUs are counted once in a process: now, and not where a test has pinned it to one.
        importlib.import_module("csoftmax.core.cpus").usable_cpus()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of the page: one for all of them."""
    from page_cases import launched, missing

    if missing():
        pytest.skip(missing())
    with launched() as chromium:
        yield chromium


@pytest.fixture
def isa() -> str:
    """The instruction set in use: the test's body runs once on each that this machine has.

    All the runs are one test, so its fixtures and the truths that it caches are made once.
    """
    name: str = _kernels().active()
    return name


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    body = pyfuncitem.obj
    taken = inspect.signature(body).parameters
    if "isa" not in taken:
        return None  # pytest calls it as it calls any test
    arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in taken}
    kernels = _kernels()
    before = kernels.active()
    try:
        for name in kernels.available():
            kernels.use(name)
            body(**{**arguments, "isa": name})
    except Exception as error:
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(f"on the instruction set {name}")
        raise
    finally:
        kernels.use(before)
    return True


@pytest.fixture
def free_threads() -> Iterator[None]:
    """Threads cost nothing: as many as find pieces are used, however small the work is."""
    kernels = _kernels()
    before = kernels.count_threads_cost(0.0)
    try:
        yield
    finally:
        kernels.count_threads_cost(before)


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows in the solver's sample, so that small problems take the way of large ones."""
    from csoftmax.solver import sample

    monkeypatch.setattr(sample, "SAMPLED_ROWS", 64)
    monkeypatch.setattr(sample, "LEAST_ROWS", 64)


@pytest.fixture(params=["newton", "lbfgs"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small problems by Newton's method, as they are solved, and by L-BFGS, as larger ones are."""
    from csoftmax.solver import newton

    if request.param == "lbfgs":
        monkeypatch.setattr(newton, "suits", lambda *sizes: False)
    way: str = request.param
    return way


@pytest.fixture(scope="session")
def fashion_mnist() -> Any:
    """(train, test) of Fashion-MNIST where a system package installed it, the sample otherwise."""
    import csoftmax

    installed = Path("/usr/share/datasets/fashion-mnist")
    if installed.is_dir():
        return csoftmax.fashion_mnist(installed)
    return csoftmax.fashion_mnist_sample()


@pytest.fixture(scope="session")
def pixels() -> tuple[Any, Any, Any, Any]:
    """X and y of the sample's images as rows of bytes, then those of its test images."""
    import csoftmax

    train, test = csoftmax.fashion_mnist_sample()
    return train.X.reshape(-1, 784), train.y, test.X.reshape(-1, 784), test.y


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV file: 200 samples of three classes that a line can part, with string labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    X = np.eye(3)[y] * 2 + 0.3 * rng.normal(size=(200, 3))
    lines = ["kind,a,b,c"]
    lines += [
        f"{('ant', 'bee', 'cat')[k]},{','.join(map(str, x))}" for k, x in zip(y, X, strict=True)
    ]
    path = tmp_path / "insects.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def model_file(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The model of that table, as the command line saves it."""
    from csoftmax.cli import main

    run = tmp_path / "model-run"
    words = ["train", "--data", str(table), "--label-column", "kind", "--out", str(run)]
    assert main([*words, "--no-plots"]) == 0
    capsys.readouterr()
    return run / "model.safetensors"


@pytest.fixture
def no_warnings() -> Iterator[None]:
    """Turn warnings into errors: where inf and NaN are results, no function may warn of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
