"""`csoftmax.dask` where workers and schedulers die: the same bits, or an error within seconds.

The workers are real processes, which are killed. Each fit is made long by its tol, not by its data.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import csoftmax as cs
from csoftmax import _kernels
from csoftmax.engine.units import CHUNK_ROWS
from csoftmax.solver import corrected
from tests.dask_cases import cluster, same, table

pytest.importorskip("distributed", reason="needs the extra dask")
da = pytest.importorskip("dask.array", reason="needs the extra dask")

from csoftmax.dask import SoftmaxClassifier  # noqa: E402
from csoftmax.engine import dask as engine  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dask")]
HANGS_AFTER = 30.0  # seconds that no pass may take, whatever dies

X, Y = table(10 * CHUNK_ROWS, 60, 10)
SETTINGS: dict[str, Any] = {"C": 1e4, "tol": 1e-9, "max_iter": 40}


@pytest.fixture(scope="module")
def local() -> Any:
    return fitted(cs.SoftmaxClassifier(**SETTINGS), X, Y)


def fitted(estimator: Any, X: Any, y: Any = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged; a large graph is sent
        return estimator.fit(X, y)


def dask_X() -> Any:
    return da.from_array(X, chunks=(3 * CHUNK_ROWS + 5, -1))


@contextmanager
def at_passes(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[int], object]
) -> Iterator[list[float]]:
    """Before each pass call a function with its number; yield how long each pass took."""
    evaluate, took = engine.DaskPasses.evaluate, []

    def watched(self: Any, *args: Any) -> Any:
        happens(len(took))
        start = time.perf_counter()
        result = evaluate(self, *args)
        took.append(time.perf_counter() - start)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(engine.DaskPasses, "evaluate", watched)
        yield took


def pids(made: Any) -> list[int]:
    return [worker.pid for worker in made.workers.values() if worker.pid]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_soon(pid: int) -> None:
    threading.Timer(0.01, kill, [pid]).start()  # while the pass is under way


def test_results_that_never_come_are_asked_for_again(
    local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask has been seen to wait for ever for results of a worker that had just died."""
    with cluster(2) as (_, client):
        gather, stuck = client.gather, []

        async def never(futures: Any) -> None:
            stuck.append(futures)
            await asyncio.sleep(3600)

        def gathered(futures: Any, **options: Any) -> Any:
            if stuck or not options.get("asynchronous"):
                return gather(futures, **options)
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
            return never(futures)

        monkeypatch.setattr(engine, "LOST_SECONDS", 0.2)
        monkeypatch.setattr(client, "gather", gathered)
        start = time.perf_counter()
        remote = fitted(SoftmaxClassifier(client=client, **SETTINGS), dask_X(), Y)
        assert time.perf_counter() - start < 2 * HANGS_AFTER
    assert len(stuck) == 1
    assert same(remote, local)


def test_eight_workers_killed_in_one_fit(local: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = []
    with cluster(3) as (made, client):

        def happens(n: int) -> None:
            alive = [pid for pid in pids(made) if pid not in killed]
            if n and n % 3 == 0 and len(killed) < 8 and alive:
                killed.append(alive[n % len(alive)])
                (kill_soon if n % 2 else kill)(killed[-1])

        with at_passes(monkeypatch, happens) as took:
            remote = fitted(SoftmaxClassifier(client=client, **SETTINGS), dask_X(), Y)
    assert len(killed) == 8
    assert same(local, remote)
    assert max(took) < HANGS_AFTER


def written(folder: Path) -> Any:
    """Return the rows as shards of two chunks."""
    for i in range(5):
        some = slice(2 * i * CHUNK_ROWS, 2 * (i + 1) * CHUNK_ROWS)
        np.save(folder / f"x{i}.npy", X[some])
        np.save(folder / f"y{i}.npy", Y[some])
    return cs.shards(f"{folder}/x*.npy", labels=f"{folder}/y*.npy")


def test_workers_of_shards_are_killed(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, killed = written(tmp_path), []
    with cluster(2) as (made, client):

        def happens(n: int) -> None:
            if n in (3, 9):
                killed.append(pids(made)[0])
                kill_soon(killed[-1])

        with at_passes(monkeypatch, happens) as took:
            remote = fitted(SoftmaxClassifier(client=client, **SETTINGS), data)
    assert len(killed) == 2
    assert same(local, remote)
    assert max(took) < HANGS_AFTER


def test_all_workers_gone_at_once_and_one_joins_late(
    local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster(2) as (made, client):

        def happens(n: int) -> None:
            if n == 4:
                for pid in pids(made):
                    kill(pid)
            if n == 8:
                made.scale(3)

        with at_passes(monkeypatch, happens) as took:
            remote = fitted(SoftmaxClassifier(client=client, **SETTINGS), dask_X(), Y)
        client.wait_for_workers(3, timeout=HANGS_AFTER)
    assert same(local, remote)
    assert max(took) < HANGS_AFTER


SCHEDULER = """
    from distributed import LocalCluster
    if __name__ == "__main__":
        made = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp",
                            host="127.0.0.1", dashboard_address=":0", silence_logs=50)
        print(made.scheduler_address, flush=True)
        input()
"""


@contextmanager
def other_cluster(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Yield process and address of a scheduler, with a worker in a thread of it."""
    script = tmp_path / "scheduler.py"
    script.write_text(textwrap.dedent(SCHEDULER))
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline().strip()
        process.kill()


@pytest.mark.parametrize("by_sample", [False, True])
def test_the_scheduler_is_killed_and_a_new_cluster_goes_on(
    by_sample: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    checkpoint = tmp_path / "state.safetensors"
    monkeypatch.setattr("csoftmax.dask.classifier.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(corrected, "COSTLY_BYTES", 1)
    settings = {**SETTINGS, "C": 1e-3} if by_sample else SETTINGS
    data: Any = written(tmp_path) if by_sample else X
    local = fitted(cs.SoftmaxClassifier(**settings), data, None if by_sample else Y)
    arguments: Any = (data,) if by_sample else (dask_X(), Y)
    killed_at, n_done = 0.0, 4 if by_sample else 12
    with other_cluster(tmp_path) as (pid, address), Client(address) as client:

        def happens(n: int) -> None:
            nonlocal killed_at
            if n == n_done:
                killed_at = time.perf_counter()
                kill(pid)

        remote = SoftmaxClassifier(client=client, checkpoint=checkpoint, **settings)
        with at_passes(monkeypatch, happens):
            with pytest.raises(ConnectionError, match="scheduler of the cluster is gone"):
                fitted(remote, *arguments)
            assert time.perf_counter() - killed_at < HANGS_AFTER
    assert checkpoint.exists()
    with cluster(2) as (_, client), at_passes(monkeypatch, lambda n: None) as took:
        remote = SoftmaxClassifier(client=client, checkpoint=checkpoint, **settings)
        fitted(remote, *arguments)
    assert same(local, remote)
    assert len(took) + n_done <= remote.history_["passes"][-1]  # it did not begin anew


class LacksSome:
    """A plugin of workers: those that start when a file exists know one instruction set only."""

    def __init__(self, file: str) -> None:
        self.file = file

    def setup(self, worker: Any) -> None:
        if Path(self.file).exists():
            least = _kernels.available()[-1]
            _kernels.use(least)
            _kernels.available = lambda: (least,)
            _kernels.active = lambda: least


@pytest.mark.skipif(len(_kernels.available()) < 2, reason="there is one instruction set only")
def test_a_worker_without_the_instruction_set_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import WorkerPlugin

    plugin = type("Plugin", (LacksSome, WorkerPlugin), {})(str(tmp_path / "flag"))
    with cluster(1) as (made, client):
        client.register_plugin(plugin)

        def happens(n: int) -> None:
            if n == 3:
                (tmp_path / "flag").touch()
                kill(pids(made)[0])  # another one takes its place

        remote = SoftmaxClassifier(client=client, **SETTINGS)
        with (
            at_passes(monkeypatch, happens),
            pytest.raises(RuntimeError, match=f"worker on .* has no {_kernels.active()}, which"),
        ):
            fitted(remote, dask_X(), Y)
        assert not hasattr(remote, "coef_")
        least = _kernels.available()[-1]
        before = _kernels.active()
        fitted(remote, dask_X(), Y)  # with what all workers have
        assert _kernels.active() == before
        with forced(least):
            assert same(fitted(cs.SoftmaxClassifier(**SETTINGS), X, Y), remote)


@contextmanager
def forced(isa: str) -> Iterator[None]:
    before = _kernels.active()
    _kernels.use(isa)
    yield
    _kernels.use(before)


INTERRUPTED = """
    import dask.array as da
    from csoftmax.dask import SoftmaxClassifier
    from tests.dask_cases import cluster, table
    if __name__ == "__main__":
        X, y = table(80_000, 60, 10)
        with cluster(2) as (_, client):
            model = SoftmaxClassifier(C=1e4, tol=1e-12, max_iter=100_000, client=client, verbose=1)
            model.fit(da.from_array(X), y)
            print(model.score(X, y), model.history_["passes"][-1], flush=True)
"""


def test_an_interrupt_at_the_terminal_keeps_the_best_so_far(tmp_path: Path) -> None:
    """It goes to the workers of a cluster on this machine too."""
    script = tmp_path / "fit.py"
    script.write_text(textwrap.dedent(INTERRUPTED))
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        lines = iter(process.stderr)
        assert any(line.startswith("pass 8, ") for line in lines)
        os.killpg(process.pid, signal.SIGINT)
        at = time.perf_counter()
        out, err = process.communicate(timeout=2 * HANGS_AFTER)
    accuracy, passes = map(float, out.split())
    assert accuracy > 0.3
    assert passes >= 8
    assert "interrupted" in err
    assert time.perf_counter() - at < HANGS_AFTER


def test_an_interrupt_keeps_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(2) as (_, client):

        def happens(n: int) -> None:
            if n == 6:
                threading.Timer(0.01, os.kill, [os.getpid(), signal.SIGINT]).start()

        remote = SoftmaxClassifier(client=client, **SETTINGS)
        with (
            at_passes(monkeypatch, happens) as took,
            pytest.warns(cs.estimators.ConvergenceWarning, match="interrupt"),
        ):
            remote.fit(dask_X(), Y)
        assert len(took) <= 8
        assert remote.score(X, Y) > 0.3
        again = SoftmaxClassifier(client=client, tol=1e-2).fit(dask_X(), Y)  # it still serves
        assert same(again, cs.SoftmaxClassifier(tol=1e-2).fit(X, Y))
