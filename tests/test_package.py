"""The package as a whole: its names, what it tells about itself, and what importing it costs."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import pydoc
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import csoftmax as cs
from csoftmax import _kernels

HEAVY = [
    "IPython", "PIL", "click", "matplotlib", "platformdirs", "pooch", "safetensors", "sklearn",
    "torch", "tqdm",
]  # fmt: skip


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program in a Python of its own, its instruction set chosen by `environment` alone."""
    inherited = {k: v for k, v in os.environ.items() if k != "CSOFTMAX_ISA"}
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, env={**inherited, **environment},
    )  # fmt: skip


def test_every_public_name_is_there_and_explains_itself() -> None:
    assert sorted(cs.__all__) == sorted(set(cs.__all__))
    for name in cs.__all__:
        assert getattr(cs, name).__doc__, name
    public = {
        "DataError", "DataLoader", "Dataset", "History", "Metrics", "Parameter", "SGD",
        "SoftmaxRegression", "cross_entropy", "evaluate", "fashion_mnist", "fashion_mnist_sample",
        "info", "linear", "linear_cross_entropy", "linear_cross_entropy_grad", "linear_evaluate",
        "log_softmax", "read", "softmax", "softmax_cross_entropy", "softmax_cross_entropy_grad",
        "train",
    }  # fmt: skip
    assert public <= set(cs.__all__)
    assert cs.__version__ == "0.1.0"


def test_importing_leaves_the_readers_for_later() -> None:
    program = """
import sys, numpy
before = set(sys.modules)
import csoftmax
readers = {"csv", "gzip", "hashlib", "json", "pathlib", "tempfile", "urllib.parse", "zipfile"}
print(sorted((set(sys.modules) - before) & readers))
from csoftmax import *
from csoftmax.data import *
print(read is csoftmax.read is csoftmax.data.read, {"read", "train"} <= set(dir(csoftmax)))
print(set(csoftmax.__all__) <= set(dir(csoftmax)), set(csoftmax.data.__all__) <= set(globals()))
"""
    done = run(program)
    assert (done.returncode, done.stdout) == (0, "[]\nTrue True\nTrue True\n"), done.stderr


@pytest.mark.parametrize("package", [cs, cs.data])
def test_an_unknown_name_is_an_attribute_error(package: Any) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'no'"):
        package.no  # noqa: B018


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("csoftmax.d2l", "csoftmax.books.d2l"),
        ("csoftmax.d2l1", "csoftmax.books.d2l1"),
        ("csoftmax.plot", "csoftmax.draw"),
    ],
)
def test_a_second_name_shows_and_explains_what_its_place_does(name: str, place: str) -> None:
    public, own = importlib.import_module(name), importlib.import_module(place)
    assert [word for word in dir(public) if not word.startswith("__")] == sorted(own.__all__)
    text = pydoc.plain(pydoc.render_doc(public))
    assert str(own.__doc__).partition("\n")[0] in text
    for word in own.__all__:
        value = getattr(public, word)
        assert value is getattr(own, word)
        if getattr(value, "__name__", "") == word and not inspect.ismodule(value):
            assert f"    {word}(" in text or f"    class {word}(" in text, word


@pytest.mark.parametrize("module", ["csoftmax", "csoftmax.d2l", "csoftmax.d2l1"])
def test_importing_is_light(module: str) -> None:
    done = run(f"import sys, {module}; print(sorted(set(sys.modules) & set({HEAVY})))")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_training_draws_nothing() -> None:
    program = """
import sys, csoftmax as cs
model = cs.SoftmaxRegression(784, 10)
cs.train(model, cs.fashion_mnist_sample()[0], epochs=1)
print({"click", "matplotlib", "PIL", "pooch"} & set(sys.modules))
"""
    done = run(program)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


def test_description_leads_nowhere_that_a_package_index_lacks() -> None:
    metadata = importlib.metadata.metadata("csoftmax")
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.json["description"]
    assert isinstance(description, str)
    assert description.startswith("# csoftmax")
    assert "![" not in description
    targets = re.findall(r"\]\(([^)]*)\)", description)
    assert [target for target in targets if not target.startswith("https://")] == []


def test_info() -> None:
    info = cs.info()
    assert info["csoftmax"] == cs.__version__
    assert info["NumPy"] == np.__version__
    assert info["instruction set"] == _kernels.active()
    assert info["instruction sets available"] == list(_kernels.available())
    assert info["instruction sets available"][-1] == "scalar"
    assert 1 <= info["usable CPUs"] <= (os.cpu_count() or 1)
    places = info["dataset locations"]
    assert all(set(place) == {"where", "found", "detail"} for place in places)
    sample = [place for place in places if "sample" in place["where"]]
    assert [place["found"] for place in sample] == [True]


def test_usable_cpus_are_those_of_the_affinity() -> None:
    done = run("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
               "import csoftmax; print(csoftmax.info()['usable CPUs'])")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_the_fixture_sets_the_instruction_set(isa: str) -> None:
    assert cs.info()["instruction set"] == isa


@pytest.mark.parametrize("name", _kernels.available())
def test_the_environment_chooses_the_instruction_set(name: str) -> None:
    done = run("import csoftmax; print(csoftmax.info()['instruction set'])", CSOFTMAX_ISA=name)
    assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr


def test_the_best_instruction_set_is_the_default() -> None:
    done = run("import csoftmax; print(csoftmax.info()['instruction set'])")
    assert done.stdout == f"{_kernels.available()[0]}\n", done.stderr


@pytest.mark.parametrize("name", ["sse9", "AVX2", "scalar "])
def test_an_unknown_instruction_set_is_an_import_error(name: str) -> None:
    done = run("import csoftmax", CSOFTMAX_ISA=name)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ImportError: environment variable CSOFTMAX_ISA: ")
    assert f"instruction set {name!r} is not available here" in last
    assert all(repr(each) in last for each in _kernels.available())


def test_instruction_sets_agree() -> None:
    """To rounding; each sums in an order of its own."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (300, 97), dtype=np.uint8), rng.integers(0, 7, 300)
    before = _kernels.active()
    weights: list[Any] = []
    try:
        for name in _kernels.available():
            _kernels.use(name)
            model = cs.SoftmaxRegression(97, 7, seed=0)
            loader = cs.DataLoader(X, y, 32, shuffle=True, seed=0, scale=1 / 255)
            cs.train(model, loader, epochs=2)
            weights.append(model.W.copy())
    finally:
        _kernels.use(before)
    for other in weights[1:]:
        np.testing.assert_allclose(other, weights[0], atol=1e-5)
