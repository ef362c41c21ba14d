"""Results keep their bits: short runs against the hashes that `tools/golden_bits.py` has kept."""

from __future__ import annotations

import importlib.util
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import csoftmax as cs

TOOL = Path(__file__).parents[1] / "tools" / "golden_bits.py"
KEPT = json.loads((Path(__file__).parent / "golden_bits.json").read_text())
SETS = ["amx", "vnni", "avx512", "avx2", "neon", "scalar"]

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="tools/ is in the repository only")


@pytest.fixture(scope="module")
def golden() -> Any:
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("golden_bits", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def marked(isa: str) -> Any:
    held = isa in ("scalar", cs.info()["instruction set"])
    return pytest.param(isa, marks=() if held else pytest.mark.slow)


@pytest.mark.parametrize("name", [marked(isa) for isa in SETS])
def test_bits_of_short_runs_are_those_that_were_kept(golden: Any, name: str) -> None:
    # Over a second, as each set has a process of its own, which imports scikit-learn.
    if name not in cs.info()["instruction sets available"]:
        pytest.skip(f"this machine does not have {name}")
    if name not in KEPT["sets"]:
        pytest.skip(f"the file was made on a machine that does not have {name}")
    # Other versions of NumPy, SciPy and scikit-learn may round otherwise.
    to_rounding = golden.made_with() != KEPT["made with"]
    lines = golden.differences(KEPT["sets"][name], golden.measure(name), to_rounding)
    assert not lines, "\n".join(lines)


def test_all_sets_agree_to_rounding(golden: Any) -> None:
    for one, other in pairwise(KEPT["sets"].values()):
        assert golden.differences(one, other, to_rounding=True) == []


def test_a_changed_bit_and_a_lost_run_are_seen(golden: Any) -> None:
    one = {"run": {"bits": "1f", "loss": 1.0, "norm": 2.0}}
    other = {"run": {"bits": "2f", "loss": 1.0 + 1e-7, "norm": 2.0}}
    far = {"run": {"bits": "1f", "loss": 1.0, "norm": 2.1}}
    assert golden.differences(one, one, to_rounding=False) == []
    assert golden.differences(one, other, to_rounding=True) == []
    assert "the same to rounding" in golden.differences(one, other, to_rounding=False)[0]
    assert "NOT the same" in golden.differences(one, far, to_rounding=True)[0]
    assert golden.differences(one, {}, to_rounding=True) == ["run: no longer a run"]
    assert golden.differences({}, one, to_rounding=True) == ["run: not in the file"]
