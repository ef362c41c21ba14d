"""The chart of a run: how much longer the peers take, and how close csoftmax is to the limits."""

from __future__ import annotations

import math
import os
from typing import Any

from csoftmax.bench.results import OURS, Result, Run, n_threads
from csoftmax.core.errors import DataError
from csoftmax.draw.figure import new_figure, write

COLORS = {
    "NumPy": "#4477aa", "JAX": "#aa3377", "PyTorch": "#ee6677",
    "PyTorch, the book's loop": "#ff99aa",
    "scikit-learn": "#ccbb44", "scikit-learn, L-BFGS iteration": "#998800",
    "scikit-learn-intelex, L-BFGS iteration": "#66ccee",
}  # fmt: skip
BARS = ("epoch", "pass", "classes", "function", "predict")
MARKERS = ("o", "s", "^", "D", "v")


def draw(run: Run, path: str | os.PathLike[str]) -> Any:
    """Draw ratio bars and the roofline picture, write it, return the figure.

    Raises
    ------
    DataError
        If the run has nothing to draw.
    """
    most = max(run.machine["threads"])
    bars = [r for r in run.results if r.group in BARS and r.threads == most and len(r.sides) > 1]
    points = [r for r in run.results if r.limit and r.flop and r.n_bytes and r.ours]
    if not bars and not points:
        raise DataError("the run has neither ratios nor limits to draw, expected results of work")
    n_bars = sum(len(r.sides) for r in bars)
    figure = new_figure(15, max(6.0, 0.13 * n_bars + 2), window=False)
    axes = figure.subplot_mosaic(
        [["bars", "roofline"], ["bars", "."]], height_ratios=[6, max(0.1, 0.13 * n_bars - 4)]
    )
    _ratio_bars(axes["bars"], bars, most)
    _roofline(axes["roofline"], points, run.limits)
    figure.suptitle(f"csoftmax {run.machine['csoftmax']} on {run.machine['cpu']}", fontsize=11)
    write(figure, path)
    return figure


def _ratio_bars(axes: Any, results: list[Result], threads: int) -> None:
    axes.set_title(f"times as long as csoftmax ({n_threads(threads)} each)", fontsize=10)
    position, ticks, labels, seen = 0.0, [], [], set()
    for result in results:
        sides = [side for side in result.sides if side != OURS]
        ticks.append(position + (len(sides) - 1) / 2)
        labels.append(result.name)
        for side in sides:
            ratio = result.ratio(side) or math.nan
            color = COLORS.get(side, "#888888")
            label = None if side in seen else side
            axes.barh(position, ratio, height=0.9, color=color, label=label)
            axes.text(ratio, position, f" {ratio:.3g}", va="center", fontsize=6)
            seen.add(side)
            position += 1
        position += 0.8
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=1)
    if results:
        axes.set_xscale("log")
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.4, -0.02), ncols=3)
    axes.margins(y=0.01)


def _roofline(axes: Any, points: list[Result], limits: dict[str, Any]) -> None:
    axes.set_title("work per second against work per byte, and the limits", fontsize=10)
    axes.set_xlabel("FLOP per byte")
    axes.set_ylabel("GFLOP/s")
    if not points:
        return
    intensities = [r.flop / r.n_bytes for r in points]
    ends = (min(intensities) / 2, max(intensities) * 2)
    threads = sorted({r.threads for r in points})
    for i, n in enumerate(threads):
        _roof(axes, limits, n, ends, ("--", "-")[i > 0])
    groups = list(dict.fromkeys(r.group for r in points))
    for result in points:
        assert result.ours is not None
        axes.plot(
            result.flop / result.n_bytes, result.flop / result.ours.min / 1e9,
            MARKERS[groups.index(result.group) % len(MARKERS)],
            color=f"C{groups.index(result.group)}", markersize=5,
            markerfacecolor="none" if result.threads == 1 else None,
        )  # fmt: skip
    for group in groups:
        marker, color = MARKERS[groups.index(group) % len(MARKERS)], f"C{groups.index(group)}"
        axes.plot([], [], marker, color=color, label=group)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend(fontsize=7, loc="lower right", title="filled: all threads", title_fontsize=7)


def _roof(
    axes: Any, limits: dict[str, Any], threads: int, ends: tuple[float, float], line: str
) -> None:
    peaks = [p["flop_per_second"] for p in limits["flops"] if p["threads"] == threads]
    reads = [b for b in limits["bandwidths"] if b["threads"] == threads and b["traffic"] == "read"]
    if not peaks or not reads:
        return
    peak = max(peaks)
    # Memory's roof: the largest array that was read, hardly in any cache.
    bandwidth = max(reads, key=lambda b: float(b["bytes"]))["bytes_per_second"]
    x = [ends[0], *([peak / bandwidth] if ends[0] < peak / bandwidth < ends[1] else []), ends[1]]
    y = [min(peak, bandwidth * i) / 1e9 for i in x]
    label = f"{n_threads(threads)}: {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.0f} GB/s"
    axes.plot(x, y, line, color="black", linewidth=1, label=label)
