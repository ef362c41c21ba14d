"""The benchmark: what it measures, checks, writes and tells, however fast or slow that is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from bench_cases import result, run_of

import csoftmax as cs
from csoftmax import _kernels, bench, reference
from csoftmax.bench import chart, experiments, measure, memory, peers, report, work
from csoftmax.bench import run as runs
from csoftmax.bench.limits import Limits
from csoftmax.bench.measure import Samples, Side, WrongResultError
from csoftmax.bench.results import OURS, Result, Run, compare
from csoftmax.bench.session import Session
from csoftmax.cli import main
from csoftmax.data import DataError

FAST = {"quick": True, "rounds": 1, "peers": "none"}

pytestmark = pytest.mark.xdist_group("many processes")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """One repetition is enough to see that something is measured, and no side is too slow."""
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 1e-6)
    monkeypatch.setattr(measure, "REST_SECONDS", 0.0)
    monkeypatch.setattr(measure, "SLOW_SECONDS", 1e9)
    monkeypatch.setattr("csoftmax.bench.limits.SAMPLE_SECONDS", 1e-6)
    monkeypatch.setattr("csoftmax.bench.limits.PEAK_ROUNDS", 1000)


def task(n: int = 64, dtype: str = "uint8") -> peers.Task:
    random = np.random.default_rng(0)
    X = random.integers(0, 256, (n, 784)).astype(dtype)
    W, b = work.parameters(784, 10)
    return peers.Task(X, random.integers(0, 10, n), W, b, 1 / 255, batch_size=24)


# --- measuring -----------------------------------------------------------------------------------


def test_the_sides_take_turns() -> None:
    calls: list[str] = []
    sides = [Side(name, lambda name=name: calls.append(name)) for name in "ab"]
    samples = measure.alternate(sides, rounds=2, threads=1)
    assert [len(samples[name].values) for name in "ab"] == [2, 2]
    assert set(calls[:2]) == {"a"}  # how long one run takes
    turns = "".join(dict.fromkeys(calls[4:]))
    order = [name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name]
    assert turns in ("ab", "ba")
    assert order == ["a", "b", "a", "b", "a", "b"]


def test_a_sample_is_per_unit_and_its_threads_are_set() -> None:
    seen: list[int] = []

    class Pinned:
        def __init__(self, n: int) -> None:
            seen.append(n)

        def __enter__(self) -> None: ...
        def __exit__(self, *error: object) -> None: ...

    one = Side("one", lambda: sum(range(20_000)), Pinned)  # type: ignore[arg-type]
    ten = Side("ten", one.run, Pinned, units=10_000)  # type: ignore[arg-type]
    samples = measure.alternate([one, ten], rounds=3, threads=2)
    assert set(seen) == {2}
    assert samples["ten"].min < samples["one"].min / 100


def test_slow_sides_take_every_other_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SLOW_SECONDS", 0.0)
    samples = measure.alternate([Side("slow", lambda: None)], rounds=5, threads=1)
    assert len(samples["slow"].values) == 3


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (1.002, 1.0),
        (float("nan"), 1.0),
        ((1.0,), (1.0, np.ones(2))),
        (np.ones(3), np.ones(2)),
        (np.array([1, 2, 3]), np.array([1, 2, 4])),
    ],
)
def test_a_wrong_result_is_not_timed(got: Any, expected: Any) -> None:
    with pytest.raises(WrongResultError, match=r"^side: "):
        measure.check(Side("side", lambda: got), expected, threads=1)


def test_a_right_result_may_differ_in_rounding() -> None:
    labels = np.zeros(10_000, np.int64)
    other = labels.copy()
    other[0] = 1
    measure.check(Side("side", lambda: (1.0005, other)), (1.0, labels), threads=1)
    measure.check(Side("side", lambda: np.empty(0)), np.empty(0), threads=1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_on_cpus_restores_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    with measure.on_cpus(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_other_load_is_a_share() -> None:
    load = measure.OtherLoad()
    assert load.fraction() is None or 0 <= load.fraction() <= 1  # type: ignore[operator]
    if load._start is not None:
        load._start = (load._start[0] - 50, load._start[1] - 100)
        assert load.fraction() == pytest.approx(0.5, abs=0.45)


def test_the_limits_are_rates_and_keep_the_best() -> None:
    limits = Limits()
    assert limits.measure_peak(1) > 0
    limits.flops[_kernels.active(), 1] = 1e30
    assert limits.measure_peak(1) == 1e30
    for traffic in ("read", "copy"):
        assert limits.measure_bandwidth(traffic, 1000, 2) > 0
    limits.flops["", 1], limits.bandwidths["read", 100, 1] = 1.0, 50.0
    seconds, bound = limits.seconds(1.0, 100, "read", 1)
    assert (seconds, bound) == (2.0, "bytes")
    limits.flops[_kernels.active(), 1] = 0.1
    assert limits.seconds(1.0, 100, "read", 1) == (10.0, "FLOP")
    assert json.dumps(limits.to_json())


# --- the work and the peers ----------------------------------------------------------------------


def test_the_work_covers_every_part() -> None:
    names = list(runs.names_of(Session([], 1, quick=True)))
    assert len(names) == len(set(names))
    groups = {name.split("/")[0] for name in names}
    assert groups >= {"epoch", "pass", "classes", "function", "predict", "call", "growth"}
    assert groups >= {"contention", "process", "memory", "float16"}


@pytest.mark.parametrize("kind", [k for k in runs.EXPECTED if k != "small_call"])
@pytest.mark.parametrize("peer", ["csoftmax", "numpy", *peers.OTHERS])
def test_every_peer_computes_what_the_reference_does(peer: str, kind: str) -> None:
    if peer in peers.OTHERS:
        pytest.importorskip(peer)
    p = task()
    if "softmax" in kind:
        random = np.random.default_rng(0)
        X = random.normal(0, 5, (40, 7)).astype(np.float32)
        p = peers.Task(X, random.integers(0, 7, 40), p.W, p.b)
    make = getattr(memory.make_peer(peer), kind, None)
    if make is None:
        pytest.skip(f"{peer} has no {kind}")
    measure.check(make(p), runs.EXPECTED[kind](p), threads=1)


def test_small_calls_are_compared_with_exp() -> None:
    p = peers.Task(np.zeros((1, 3), np.float32), np.zeros(1, int), *work.parameters(1, 1))
    assert peers.NumPy().small_call(p).name == "numpy.exp"
    measure.check(peers.CSoftmax().small_call(p), reference.softmax(p.X), threads=1)


def test_scikit_learns_fit_is_checked() -> None:
    pytest.importorskip("sklearn")
    from csoftmax.bench.estimators import ScikitLearn

    p = work.image_task(quick=True, dtype="uint8")
    side = ScikitLearn().loss_and_gradient_by_fit(p)
    measure.check(side, None, threads=1)
    assert side.units == 10
    fitted = side.run()
    fitted.coef_ = 0 * fitted.coef_
    with pytest.raises(WrongResultError, match="loss"):
        side.verify(fitted)  # type: ignore[misc]


def test_the_books_loop_trains() -> None:
    pytest.importorskip("torch")
    p = work.image_task(quick=True, dtype="uint8")  # noise would not train
    side = memory.make_peer("torch").epoch_of_the_book(p)
    measure.check(side, runs.EXPECTED["epoch"](p), threads=1)


def test_choosing_peers() -> None:
    assert peers.chosen("all") == list(peers.OTHERS)
    assert peers.chosen("scikit-learn, jax") == ["sklearn", "jax"]
    with pytest.raises(ValueError, match='peers has "tensorflow", expected all, none or some of'):
        peers.chosen("jax,tensorflow")


def test_a_missing_peer_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "is_installed", lambda name: False)
    run = bench.main(bench.Options(only="call/softmax 1x10", quick=True, rounds=1))
    assert run.missing == dict.fromkeys(map(peers.label, peers.OTHERS), "not installed")
    assert "\nPyTorch: not installed\n" in capsys.readouterr().out


def test_an_installed_peer_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twin(peers.NumPy):
        def softmax(self, p: peers.Task) -> Side:
            return Side("JAX", lambda: reference.softmax(p.X), self.pinned)

    made: list[str] = []
    monkeypatch.setattr(peers, "is_installed", lambda name: True)
    monkeypatch.setattr(peers, "make", lambda name: made.append(name) or Twin())
    options = bench.Options(only="function/softmax/", peers="jax", quick=True, rounds=1)
    run = bench.main(options)
    assert made == ["jax"]
    assert len(run.results) == 3 * len(options.session.threads)
    assert all("JAX" in found.sides for found in run.results)


# --- whole runs ----------------------------------------------------------------------------------


def test_a_run_writes_json_and_a_chart_and_tells_them_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, picture = tmp_path / "new" / "bench.json", tmp_path / "bench.png"
    words = ["bench", "--quick", "--rounds", "2", "--peers", "none", "--only"]
    words += ["epoch/uint8/batch 256,*/log_softmax/*x10"]
    assert main([*words, "--json", str(path), "--chart", str(picture)]) == 0
    output = capsys.readouterr().out
    assert "NumPy" in output
    content = json.loads(path.read_text())
    assert (content["format"], content["version"]) == ("csoftmax-bench", 1)
    assert {"cpu", "instruction_set", "usable_cpus", "threads", "pinning", "versions"} <= set(
        content["machine"]
    )
    assert content["machine"]["versions"]["numpy"] == np.__version__
    names = {entry["name"] for entry in content["results"]}
    assert names == {"epoch/uint8/batch 256", "function/log_softmax/4096x10"}
    for entry in content["results"]:
        assert entry["flop"] > 0
        assert entry["bytes"] > 0
        assert entry["fraction"] > 0
        ours, numpy = entry["sides"][OURS], entry["sides"]["NumPy"]
        assert len(ours["samples"]) == len(numpy["samples"]) == 2
        assert ours["min"] == min(ours["samples"]) <= ours["median"]
        assert numpy["ratio"] == pytest.approx(numpy["min"] / ours["min"])
    assert {p["threads"] for p in content["limits"]["flops"]} == set(content["machine"]["threads"])
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] > 500
    assert np.ptp(pixels) == 1

    again = ["bench", "--from", str(path), "--compare", str(path), "--json", str(path)]
    assert main(again) == 0
    output = capsys.readouterr().out
    assert f"{len(content['results'])} results in both, 0 slower, 0 faster" in output
    assert json.loads(path.read_text()) == content


@pytest.mark.parametrize("name", ["n_samples", "n_features", "n_classes", "threads"])
def test_growth_finds_the_cost_of_a_unit(name: str) -> None:
    (found,) = experiments.growth(name, Session([], 1, quick=True))
    assert len(found.sides) >= 1
    assert all(samples.min > 0 for samples in found.sides.values())
    if name != "threads":
        assert set(found.facts) == {"fixed seconds", "seconds per unit", "largest deviation"}
        assert found.facts["fixed seconds"] >= 0


def test_a_straight_line_is_found_and_a_bend_is_seen() -> None:
    assert experiments.affine_fit([1, 10, 100], [2, 20, 200])[2] == pytest.approx(0)
    fixed, each, deviation = experiments.affine_fit([1, 10, 100], [1, 20, 400])
    assert fixed == 0
    assert 1 < each < 4
    assert deviation > 0.15


@pytest.mark.parametrize("only", ["isa/pass", "float16/256x768", "contention", "growth/powers"])
def test_experiments(only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csoftmax.bench.session.usable_cpus", lambda: 2)
    before = _kernels.active()
    run = bench.main(bench.Options(only=only, **FAST))
    assert _kernels.active() == before
    if only == "isa/pass" and len(_kernels.available()) <= 2:
        pytest.skip("one vector instruction set on this machine")
    assert run.results
    for found in run.results:
        assert all(samples.min > 0 for samples in found.sides.values())
    if only == "contention":
        (found,) = run.results
        assert len(found.sides[OURS].values) == experiments.CONTENTION_EPOCHS
        assert found.facts["worst epoch"] > 0


def test_no_contention_on_one_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csoftmax.bench.session.usable_cpus", lambda: 1)
    assert list(experiments.contention(Session([], 1, quick=True))) == []


def test_processes() -> None:
    run = bench.main(bench.Options(only="process/,memory/classes float32", **FAST))
    started, trained, held = run.results
    assert started.sides["import numpy"].min > 0
    assert trained.facts["seconds above the import"] > 0
    assert held.unit == "B"
    assert set(held.sides) == {OURS, "NumPy"}
    assert held.facts["data"] == 4 * 256 * 256


def test_memory_in_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    found = memory.main("numpy", "2000x500x100xfloat32")
    assert found["data"] == 4 * 2000 * 500
    assert found["peak"] >= 0
    epoch = memory.main("csoftmax", "epoch")
    assert epoch["data"] > 4_000_000
    assert memory.resident("VmHWM") > 0


def test_a_process_that_fails_says_why() -> None:
    from csoftmax.bench.processes import python

    with pytest.raises(RuntimeError, match="nonsense"):
        python("-c", "import nonsense")


def test_the_module_is_the_command() -> None:
    home = str(Path(cs.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "csoftmax.bench", "--only", "nothing at all"],
        env={**os.environ, "PYTHONPATH": home}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith('csoftmax: error: --only is "nothing at all"')


# --- telling -------------------------------------------------------------------------------------


def test_compare_tells_what_became_slower() -> None:
    old = run_of(result("a", csoftmax=1.0), result("b", csoftmax=1.0), result("c", csoftmax=1.0))
    new = run_of(result("a", csoftmax=1.5), result("b", csoftmax=0.5), result("c", csoftmax=1.05))
    assert compare(old, new) == [
        "slower x1.50: a, 1 thread",
        "faster x2.00: b, 1 thread",
        "3 results in both, 1 slower, 1 faster by > 10 %",
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x", "version": 1}', "\x00"])
def test_broken_json_is_a_data_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"b\.json: expected the JSON of"):
        Run.read(path)


def test_lines_of_results() -> None:
    line = report.line_of(result("epoch/x", 2, csoftmax=0.01, NumPy=0.08))
    assert line.split()[:4] == ["epoch/x", "2", "10", "ms"]
    assert line.endswith("NumPy 8x")
    sizes = Result("growth/n", 1, {"200": Samples([2e-6])}, facts={"largest deviation": 0.25})
    assert report.line_of(sizes).endswith("200: 2 us  [largest deviation 0.25]")
    busy = run_of()
    busy.machine["other_load"] = 0.5
    assert report.lines_of_limits(busy)[0].startswith("other processes had 50% of the CPUs")


def test_a_chart_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither ratios nor limits to draw"):
        chart.draw(run_of(), tmp_path / "c.png")


def test_a_chart_needs_no_peers(tmp_path: Path) -> None:
    alone = result("pass/x", 1, csoftmax=0.02)
    alone.flop, alone.n_bytes, alone.limit, alone.bound = 1.9e9, 47_000_000, 0.01, "FLOP"
    figure = chart.draw(run_of(alone), tmp_path / "c.svg")
    assert (tmp_path / "c.svg").read_text().startswith("<?xml")
    bars, roofline = figure.axes
    assert not bars.patches
    assert len(roofline.lines) >= 2
