"""The team of threads: the same bits for any number of threads, whatever happens around it.

A lost or doubled piece of work would show as other bits, a lost wake-up as a call that never ends:
what could hang runs in a child process, or in a thread, with a generous limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from csoftmax import _kernels

pytestmark = [pytest.mark.usefixtures("free_threads"), pytest.mark.xdist_group("many processes")]

Array = Any
LIMIT = 600  # seconds; each test takes a few, but the machine may be busy


class Work:
    """Passes over one data set with pieces for eight threads or more, and some work for each."""

    def __init__(self, seed: int = 0, n: int = 4000, j: int = 70, k: int = 110) -> None:
        rng = np.random.default_rng(seed)
        self.X = rng.integers(0, 256, (n, j)).astype(np.uint8)
        self.W = rng.normal(size=(k, j)).astype(np.float32)
        self.b = rng.normal(size=k).astype(np.float32)
        self.y = rng.integers(0, k, n)
        self.order = rng.permutation(n)
        self.logits = rng.normal(size=(n, k, 1)).astype(np.float32)

    def gradient(self, n_threads: int) -> list[Array]:
        losses, dW, db = np.empty(len(self.y), np.float32), np.empty_like(self.W), self.b.copy()
        result = _kernels.row_pass(
            self.X, self.W, self.b, 1 / 255, y=self.y, losses=losses, gradient=(dW, db),
            n_threads=n_threads,
        )  # fmt: skip
        return [np.array(result), losses, dW, db]

    def epoch(self, n_threads: int) -> list[Array]:
        W, b = self.W.copy(), self.b.copy()
        sgd = (0.1, 0.9, True, 1e-4, np.zeros_like(W), np.zeros_like(b))
        result = _kernels.row_pass(
            self.X, W, b, 1 / 255, y=self.y, order=self.order, batch_rows=256, sgd=sgd,
            n_threads=n_threads,
        )  # fmt: skip
        return [np.array(result), W, b]

    def predict(self, n_threads: int) -> list[Array]:
        predictions = np.empty(len(self.y), np.int64)
        _kernels.row_pass(
            self.X, self.W, self.b, 1 / 255, predictions=predictions, n_threads=n_threads
        )
        return [predictions]

    def softmax(self, n_threads: int) -> list[Array]:
        probs, dlogits = np.empty_like(self.logits), np.empty_like(self.logits)
        losses = np.empty(len(self.y), np.float32)
        _kernels.softmax_pass("softmax", self.logits, probs, n_threads=n_threads)
        _kernels.softmax_pass(
            "cross_entropy", self.logits, dlogits, y=self.y, losses=losses, n_threads=n_threads
        )
        return [probs, dlogits, losses]


PASSES = ["gradient", "epoch", "predict", "softmax"]


def bits(arrays: list[Array]) -> list[bytes]:
    return [array.tobytes() for array in arrays]


def finishes(function: Callable[[], object]) -> None:
    """Run it in a thread of its own; fail if it never comes back, raise what it raises."""
    errors: list[BaseException] = []

    def body() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive(), "a call never came back"
    if errors:
        raise errors[0]


@pytest.fixture
def busy() -> Iterator[None]:
    """Two other processes that keep every CPU of a small machine busy."""
    code = "while True: pass"
    others = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(2)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.parametrize("repetitions", [3, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PASSES)
def test_many_short_calls_are_bitwise_equal(isa: str, name: str, repetitions: int) -> None:
    work = Work()
    run = getattr(work, name)
    expected = bits(run(1))

    def calls() -> None:
        for repetition in range(repetitions):
            for n_threads in range(1, 17):
                assert bits(run(n_threads)) == expected, (repetition, n_threads)

    finishes(calls)


def test_on_busy_cpus(busy: None) -> None:
    work = Work()
    expected = {name: bits(getattr(work, name)(1)) for name in PASSES}

    def calls() -> None:
        for n_threads in (2, 3, 5, 8, 16):
            for name in PASSES:
                assert bits(getattr(work, name)(n_threads)) == expected[name], (name, n_threads)

    finishes(calls)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_helpers_that_leave_the_callers_cpu_use_only_those_allowed() -> None:
    """With one CPU they have nowhere to go; and what is allowed stays as it was."""
    work, allowed = Work(), os.sched_getaffinity(0)
    expected = {name: bits(getattr(work, name)(1)) for name in PASSES}

    def calls() -> None:
        for cpus in ({min(allowed)}, {max(allowed)}, allowed):
            os.sched_setaffinity(0, cpus)
            for name in PASSES:
                assert bits(getattr(work, name)(3)) == expected[name], (name, cpus)
            assert os.sched_getaffinity(0) == cpus

    try:
        finishes(calls)
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("name", PASSES)
def test_who_waits_too_long_goes_on_alone(isa: str, name: str) -> None:
    """Every wait is too long: helpers leave early, and come back or not. The same bits."""
    run = getattr(Work(), name)
    expected = bits(run(1))
    before = _kernels.wait_at_most(-1e9)

    def calls() -> None:
        for n_threads in (2, 3, 8) * 4:
            _kernels.wait_at_most(-1e9)  # helpers are welcome again
            assert bits(run(n_threads)) == expected, n_threads
            assert bits(run(n_threads)) == expected, n_threads

    try:
        finishes(calls)
    finally:
        _kernels.wait_at_most(before)


def test_calls_from_several_threads_at_once() -> None:
    works = [Work(seed) for seed in range(6)]
    expected = [[bits(getattr(work, name)(1)) for name in PASSES] for work in works]

    def calls(caller: int) -> None:
        for repetition in range(10):
            for p, name in enumerate(PASSES):
                got = bits(getattr(works[caller], name)(1 + (caller + repetition) % 5))
                assert got == expected[caller][p], (caller, name)

    def at_once() -> None:
        with ThreadPoolExecutor(len(works)) as pool:
            list(pool.map(calls, range(len(works))))

    finishes(at_once)


def test_instruction_set_switched_during_a_call() -> None:
    """A running call keeps the instruction set that it began with."""
    work, before = Work(), _kernels.active()
    allowed = set()
    for name in _kernels.available():
        _kernels.use(name)
        allowed.add(tuple(bits(work.gradient(1))))
    stop = threading.Event()

    def switch() -> None:
        while not stop.is_set():
            for name in _kernels.available():
                _kernels.use(name)

    switcher = threading.Thread(target=switch)
    switcher.start()
    try:
        for _ in range(50):
            assert tuple(bits(work.gradient(4))) in allowed
    finally:
        stop.set()
        switcher.join()
        _kernels.use(before)


def exit_status(child: int) -> int:
    """Wait for a forked child, but not for ever."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the forked child never came back")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("during_a_call", [False, True])
def test_in_a_forked_child(during_a_call: bool) -> None:
    work = Work()
    expected = [bits(getattr(work, name)(1)) for name in PASSES]
    assert [bits(getattr(work, name)(4)) for name in PASSES] == expected
    stop = threading.Event()

    def keep_calling() -> None:
        while not stop.is_set():
            work.gradient(4)

    other = threading.Thread(target=keep_calling)
    if during_a_call:
        other.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                got = [bits(getattr(work, name)(4)) for name in PASSES]
                os._exit(0 if got == expected else 3)
            assert exit_status(child) == 0
    finally:
        stop.set()
        if during_a_call:
            other.join()
    assert [bits(getattr(work, name)(4)) for name in PASSES] == expected


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
from csoftmax import _kernels

_kernels.count_threads_cost(0.0)
name, n_threads = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
n, j, k = 3000, 256, 100
X = rng.normal(size=(n, j)).astype(np.float32)
W = (rng.normal(size=(k, j)) / 16).astype(np.float32)
b, y = np.zeros(k, np.float32), rng.integers(0, k, n)
losses, dW, db = np.empty(n, np.float32), np.empty_like(W), np.empty_like(b)
logits = rng.normal(size=(n, k, 1)).astype(np.float32)
probs = np.empty_like(logits)
epochs = 1 << 15  # minutes of work, from an order that visits each row that often

def long_call():
    if name == "epoch":
        order = np.tile(np.arange(n), epochs // 8)
        sgd = (1e-3, 0.0, False, 0.0, None, None)
        _kernels.row_pass(X, W, b, 1.0, y=y, order=order, batch_rows=256, sgd=sgd,
                          n_threads=n_threads)
    elif name == "gradient":
        order = np.tile(np.arange(n), epochs // 8)
        _kernels.row_pass(X, W, b, 1.0, y=y, order=order, gradient=(dW, db), n_threads=n_threads)
    elif name == "forward":
        rows = np.broadcast_to(X[0], (n * epochs, j))  # one row, many times
        _kernels.row_pass(rows, W, b, 1.0, n_threads=n_threads)
    else:
        many = np.broadcast_to(logits[0].reshape(1, k), (1 << 28, 1, k)).transpose(0, 2, 1)
        _kernels.softmax_pass("cross_entropy", many, None, dense=many, n_threads=n_threads,
                              losses=np.empty(len(many), np.float32))

def passes(threads):
    result = _kernels.row_pass(X, W, b, 1.0, y=y, losses=losses, gradient=(dW, db),
                               n_threads=threads)
    _kernels.softmax_pass("softmax", logits, probs, n_threads=threads)
    return [repr(result), losses.tobytes(), dW.tobytes(), db.tobytes(), probs.tobytes()]

W_before, b_before = W.copy(), b.copy()
expected = passes(1)
for repetition in range(2):
    sent = []
    def interrupt():
        sent.append(time.process_time())
        os.kill(os.getpid(), signal.SIGINT)
    timer = threading.Timer(0.4, interrupt)
    timer.start()
    try:
        long_call()
    except KeyboardInterrupt:
        print(f"interrupted after {time.process_time() - sent[0]:.3f} s")
    else:
        sys.exit("the long call was over before the signal came")
    timer.join()
    assert np.isfinite(W).all() and np.isfinite(b).all()
    np.copyto(W, W_before)
    np.copyto(b, b_before)
    for threads in (1, n_threads):
        assert passes(threads) == expected
"""


@pytest.mark.parametrize("n_threads", [1, 4])
@pytest.mark.parametrize("name", ["epoch", "gradient", "forward", "softmax"])
def test_interrupt_ends_a_long_call(name: str, n_threads: int) -> None:
    """Within a second of work, as promised to who presses Ctrl-C; the arrays are as before."""
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, name, str(n_threads)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert run.returncode == 0, run.stderr
    delays = [float(line.split()[2]) for line in run.stdout.splitlines()]
    assert len(delays) == 2
    assert max(delays) < 1


AT_EXIT = """
import sys, threading
import numpy as np
from csoftmax import _kernels

_kernels.count_threads_cost(0.0)
X, W, b = np.ones((4000, 64), np.float32), np.ones((100, 64), np.float32), np.ones(100, np.float32)
y = np.zeros(len(X), np.int64)

def call(repetitions):
    for _ in range(repetitions):
        _kernels.row_pass(X, W, b, 1.0, y=y, n_threads=8)

if sys.argv[1] == "mid-call":  # this thread is killed wherever it happens to be
    threading.Thread(target=call, args=(10**9,), daemon=True).start()
call(2)
"""


@pytest.mark.parametrize(
    ("when", "times"),
    [
        ("after", 6),
        ("mid-call", 4),
        pytest.param("after", 50, marks=pytest.mark.slow),
        pytest.param("mid-call", 15, marks=pytest.mark.slow),
    ],
)
def test_interpreter_exit_right_after_a_call(when: str, times: int) -> None:
    def exit_once(_: int) -> tuple[int, str]:
        command = [sys.executable, "-c", AT_EXIT, when]
        run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        return run.returncode, run.stderr

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(exit_once, range(times))) == {(0, "")}
