"""How a run is told: lines in the terminal, and the README's table."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from csoftmax.core.errors import DataError
from csoftmax.core.files import write_atomically

from .goals import BOOK, INTEL_LBFGS, LBFGS
from .results import OURS, Result, Run, n_threads

# Other processes with more of the CPUs than this bend the figures.
BUSY = 0.03
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

HEADER = (
    f"{'work':<44} {'threads':>7} {'csoftmax':>10} {'(median)':>11} {'GFLOP':>7} {'MB':>7} "
    f"{'of limit':>10}  how many times as long the others take"
)


def line_of(result: Result) -> str:
    """Return a result as one line of the terminal's table."""
    amounts = [_amount(result.flop / 1e9), _amount(result.n_bytes / 1e6)]
    limit = f"{result.fraction:5.0%} {result.bound}" if result.fraction else ""
    line = f"{result.name:<44} {result.threads:>7} "
    if result.ours is None:
        return line.rstrip() + "  " + ", ".join(_sizes(result)) + _facts(result)
    minimum, median = (_quantity(v, result.unit) for v in (result.ours.min, result.ours.median))
    line += f"{minimum:>10} {f'({median})':>11} {amounts[0]:>7} {amounts[1]:>7} {limit:>10}  "
    others = [f"{side} {result.ratio(side):.3g}x" for side in result.sides if side != OURS]
    return (line + "  ".join(others) + _facts(result)).rstrip()


def _amount(value: float) -> str:
    return f"{value:.3g}" if value else ""


def _quantity(value: float, unit: str) -> str:
    """Three digits and a unit.

    Examples
    --------
    >>> _quantity(0.01234, "s"), _quantity(4.2e-6, "s"), _quantity(48_000_000.0, "B")
    ('12.3 ms', '4.2 us', '48 MB')
    """
    if unit == "B":
        return f"{value / 1e6:.3g} MB"
    for factor, name in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e6:.3g} us"


def _sizes(result: Result) -> list[str]:
    return [f"{name}: {_quantity(s.min, result.unit)}" for name, s in result.sides.items()]


def _facts(result: Result) -> str:
    if not result.facts:
        return ""
    return "  [" + ", ".join(f"{name} {value:.3g}" for name, value in result.facts.items()) + "]"


def lines_of_machine(run: Run) -> list[str]:
    """Return what the run was measured on."""
    machine = run.machine
    installed = [f"{name} {v}" for name, v in machine["versions"].items() if v]
    return [
        f"{machine['cpu']}, {machine['instruction_set']}, {machine['usable_cpus']} usable CPUs, "
        f"Python {machine['python']}, csoftmax {machine['csoftmax']}, {', '.join(installed)}",
        f"data: {machine['dataset']}; {machine['rounds']} rounds, the sides in turn; times and "
        "ratios are of minima",
        "of limit: by the best peak and bandwidth seen until then; JSON, goals and chart take the "
        "best of the whole run",
        "threads: " + ", ".join(f"{who} by {how}" for who, how in machine["pinning"].items()),
    ]


def lines_of_limits(run: Run) -> list[str]:
    """Return the machine's limits, and whether it was ours alone."""
    lines = []
    load = run.machine.get("other_load") or 0.0
    if load > BUSY:
        lines.append(f"other processes had {load:.0%} of the CPUs: trust the ratios with care")
    lines += [
        f"peak, float32, {peak['instruction_set']}, {n_threads(peak['threads'])}: "
        f"{peak['flop_per_second'] / 1e9:.0f} GFLOP/s"
        for peak in run.limits["flops"]
    ]
    bandwidths = sorted(run.limits["bandwidths"], key=lambda b: float(b["bytes"]))
    for kind, threads in sorted({(b["traffic"], b["threads"]) for b in bandwidths}):
        rates = [
            f"{b['bytes'] / 1e6:.3g} MB {b['bytes_per_second'] / 1e9:.1f}"
            for b in bandwidths
            if (b["traffic"], b["threads"]) == (kind, threads)
        ]
        lines.append(f"{kind}, {n_threads(threads)}, GB/s by size: {', '.join(rates)}")
    return lines


# ---------------------------------------------------------------- the README's table

ROWS = [
    ("epoch/uint8/batch 256", "one training epoch, 60,000 images, uint8, batch 256",
     "一个迭代周期，60,000 张图像，uint8，批量大小256"),
    ("pass/uint8", "loss and gradient over all 60,000 images, uint8",
     "全部 60,000 张图像的损失与梯度，uint8"),
    ("classes/float32/4096x768x100", "loss and gradient, 4096 × 768 × 100 classes",
     "损失与梯度，4096 × 768 × 100 类"),
    ("classes/float32/4096x1024x1000", "loss and gradient, 4096 × 1024 × 1000 classes",
     "损失与梯度，4096 × 1024 × 1000 类"),
    ("classes/float32/65536x512x100", "loss and gradient, 65,536 × 512 × 100 classes",
     "损失与梯度，65,536 × 512 × 100 类"),
    ("function/softmax/65536x10", "softmax, 65,536 × 10", "softmax，65,536 × 10"),
    ("function/softmax/65536x100", "softmax, 65,536 × 100", "softmax，65,536 × 100"),
    ("function/softmax/2048x32768", "softmax, 2048 × 32,768", "softmax，2048 × 32,768"),
    ("predict/60000", "predict 60,000 images", "预测 60,000 张图像"),
    ("memory/epoch", "peak memory of training, data included", "训练的峰值内存（含数据）"),
]  # fmt: skip
COLUMNS = [
    ("NumPy", ("NumPy",)),
    ("JAX", ("JAX",)),
    ("PyTorch", ("PyTorch",)),
    ("PyTorch, the book's loop", (BOOK,)),
    ("scikit-learn", (LBFGS,)),
    ("scikit-learn-intelex", (INTEL_LBFGS,)),
]
TEXTS = {
    "en": {
        "work": "work", "limit": "of the limit", "book": "PyTorch, the book's loop",
        "below": (
            "{cpu}, {isa}, {threads} threads for everyone. Each peer: how many times as long (or "
            "as much memory) it takes. The limit: what this machine's float32 arithmetic, or "
            "reading and plain copying of memory, allow; pixels multiplied as bytes may pass it, "
            "and long rows of softmax, which are not written in step with what is read. "
            "scikit-learn and its Intel extension: one iteration of L-BFGS. {versions}. "
            "Made by `python -m csoftmax bench --json bench.json` and "
            "`python -m csoftmax bench --from bench.json --readme README.md`."
        ),
    },
    "zh": {
        "work": "任务", "limit": "达到极限的", "book": "PyTorch，书中的循环",
        "below": (
            "{cpu}，{isa}，各方均用 {threads} 个线程。每一列是该库所需时间（或内存）是 csoftmax 的"
            "多少倍。极限：本机的float32算力、内存读取或普通内存复制所允许的最短时间；按字节相乘的像素"
            "可以超过它，softmax的长行也可以，因为写入与读取的位置错开。"
            "scikit-learn 及其 Intel 扩展：L-BFGS 的一次迭代。{versions}。"
            "由 `python -m csoftmax bench --json bench.json` 与 "
            "`python -m csoftmax bench --from bench.json --readme README.zh-CN.md` 生成。"
        ),
    },
}  # fmt: skip


def readme_table(run: Run, language: str) -> str:
    """Return the README's table of ratios, in "en" or "zh".

    Raises
    ------
    DataError
        If the run has none of the table's results.
    """
    texts, most = TEXTS[language], max(run.machine["threads"])
    rows = [(run.find(name, most), en if language == "en" else zh) for name, en, zh in ROWS]
    found = [(result, title) for result, title in rows if result and result.ours]
    if not found:
        raise DataError("the run has no result of the README's table, expected a full run's JSON")
    columns = [c for c in COLUMNS if any(s in r.sides for r, _ in found for s in c[1])]
    titles = [texts["book"] if title == BOOK else title for title, _ in columns]
    lines = [
        "| " + " | ".join([texts["work"], OURS, texts["limit"], *titles]) + " |",
        "|" + "---|" * (3 + len(columns)),
    ]
    for result, title in found:
        assert result.ours is not None
        cells = [title, _quantity(result.ours.min, result.unit)]
        cells.append(f"{result.fraction:.0%}" if result.fraction else "")
        cells += [_ratio_cell(result, sides) for _, sides in columns]
        lines.append("| " + " | ".join(cells) + " |")
    machine = run.machine
    versions = ", ".join(
        f"{name} {v}" for name, v in machine["versions"].items() if v and name != "threadpoolctl"
    )
    below = texts["below"].format(
        cpu=machine["cpu"], isa=machine["instruction_set"].upper(), threads=most, versions=versions
    )
    return "\n".join([*lines, "", below])


def _ratio_cell(result: Result, sides: Iterable[str]) -> str:
    ratios = [result.ratio(side) for side in sides if side in result.sides]
    return f"{ratios[0]:.3g}×" if ratios and ratios[0] else ""


def check_markers(path: str | os.PathLike[str]) -> str:
    """Return the file's text, which has one pair of markers."""
    text = Path(path).read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise DataError(f"{path}: expected one line {BEGIN} and after it one line {END}")
    return text


def rewrite_readme(path: str | os.PathLike[str], run: Run) -> None:
    """Replace the lines between the two markers; Chinese if the file's name says zh.

    Raises
    ------
    FileNotFoundError, DataError
        No such file, or not exactly one pair of markers in it.
    """
    text = check_markers(path)
    table = readme_table(run, "zh" if ".zh" in Path(path).name else "en")
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    replacement = f"{BEGIN}\n{table}\n{END}"
    new = re.sub(pattern, lambda _: replacement, text, flags=re.DOTALL)
    write_atomically(path, lambda file: file.write(new.encode()))
