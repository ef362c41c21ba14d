"""Put a run's table into the READMEs: ``python -m benchmarks.readme bench.json README.md``.

The table replaces the lines between the two markers of each file.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.goals import BOOK, INTEL_LBFGS, LBFGS
from csoftmax.bench.report import quantity
from csoftmax.bench.results import OURS, Result, Run
from csoftmax.core.errors import DataError
from csoftmax.core.files import write_atomically

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
ROWS = [
    ("epoch/uint8/batch 256", "one training epoch, 60,000 images, uint8, batch 256",
     "一个迭代周期，60,000张图像，uint8，批量大小256"),
    ("pass/uint8", "loss and gradient over all 60,000 images, uint8",
     "全部60,000张图像的损失与梯度，uint8"),
    ("classes/float32/4096x768x100", "loss and gradient, 4096 × 768 × 100 classes",
     "损失与梯度，4096 × 768 × 100类"),
    ("classes/float32/4096x1024x1000", "loss and gradient, 4096 × 1024 × 1000 classes",
     "损失与梯度，4096 × 1024 × 1000类"),
    ("classes/float32/65536x512x100", "loss and gradient, 65,536 × 512 × 100 classes",
     "损失与梯度，65,536 × 512 × 100类"),
    ("function/softmax/65536x10", "softmax, 65,536 × 10", "softmax，65,536 × 10"),
    ("function/softmax/65536x100", "softmax, 65,536 × 100", "softmax，65,536 × 100"),
    ("function/softmax/2048x32768", "softmax, 2048 × 32,768", "softmax，2048 × 32,768"),
    ("predict/60000", "predict 60,000 images", "预测60,000张图像"),
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
            "`python -m benchmarks.readme bench.json README.md`."
        ),
    },
    "zh": {
        "work": "任务", "limit": "占极限的比例", "book": "PyTorch，书中的循环",
        "below": (
            "{cpu}，{isa}，各方均用{threads}个线程。各库的数字：所需时间（或内存）是csoftmax的多少倍。"
            "极限：本机的float32算力、内存读取或普通内存复制所允许的最短时间；像素按字节相乘，可以超过它；"
            "softmax的长行也可以，因为写入与读取的位置错开。"
            "scikit-learn及其Intel扩展：L-BFGS的一次迭代。{versions}。"
            "由`python -m csoftmax bench --json bench.json`与"
            "`python -m benchmarks.readme bench.json README.zh-CN.md`生成。"
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
        cells = [title, quantity(result.ours.min, result.unit)]
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.readme", description="Put a run's table into the READMEs."
    )
    parser.add_argument("run", type=Path, help="JSON of `python -m csoftmax bench --json`")
    parser.add_argument("readme", type=Path, nargs="+", help="file with the two markers")
    options = parser.parse_args(arguments)
    run = Run.read(options.run)
    for path in options.readme:
        rewrite_readme(path, run)


if __name__ == "__main__":
    main()
