"""The cost of an epoch, a pass, a softmax and a fit, in instructions, is what it was within 2 %."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "count_instructions.py"
KEPT = Path(__file__).parent / "instructions.json"

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="tools/ is in the repository only")


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("count_instructions", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_instructions_are_those_that_were_kept(tool: Any) -> None:
    if tool.missing():
        pytest.skip(tool.missing())
    lines = tool.differences(json.loads(KEPT.read_text()), tool.count(), tool.made_with())
    assert not lines, "\n".join(lines)


def test_three_percent_more_or_less_are_seen_and_another_compiler_is_named(tool: Any) -> None:
    kept = {"made with": {"gcc": "12"}, "instructions": {"pass": 1000}}
    assert tool.differences(kept, {"pass": 1019}, {"gcc": "13"}) == []
    assert tool.differences(kept, {"pass": 970}, {"gcc": "12"}) == [
        "pass: 970 instructions, expected 1,000 (-3.0%)"
    ]
    more, versions = tool.differences(kept, {"pass": 1030}, {"gcc": "13"})
    assert "+3.0%" in more
    assert "'13'" in versions
    assert tool.differences(kept, {}, {"gcc": "12"}) != []
    assert tool.differences(kept, {"pass": 1000, "fit": 1}, {"gcc": "12"}) != []
