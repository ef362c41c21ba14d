"""How a run is told in the terminal: lines of results, of the machine, and of its limits."""

from __future__ import annotations

from csoftmax.bench.results import OURS, Result, Run, n_threads

# Other processes with more of the CPUs than this bend the figures.
BUSY = 0.03

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
    minimum, median = (quantity(v, result.unit) for v in (result.ours.min, result.ours.median))
    line += f"{minimum:>10} {f'({median})':>11} {amounts[0]:>7} {amounts[1]:>7} {limit:>10}  "
    others = [f"{side} {result.ratio(side):.3g}x" for side in result.sides if side != OURS]
    return (line + "  ".join(others) + _facts(result)).rstrip()


def _amount(value: float) -> str:
    return f"{value:.3g}" if value else ""


def quantity(value: float, unit: str) -> str:
    """Three digits and a unit.

    Examples
    --------
    >>> quantity(0.01234, "s"), quantity(4.2e-6, "s"), quantity(48_000_000.0, "B")
    ('12.3 ms', '4.2 us', '48 MB')
    """
    if unit == "B":
        return f"{value / 1e6:.3g} MB"
    for factor, name in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e6:.3g} us"


def _sizes(result: Result) -> list[str]:
    return [f"{name}: {quantity(s.min, result.unit)}" for name, s in result.sides.items()]


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
        "of limit: by the best peak and bandwidth seen until then; JSON and chart take the best of "
        "the whole run",
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
