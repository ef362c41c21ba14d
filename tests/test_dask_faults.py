"""`csoftmax.dask` where workers and schedulers die: the same bits, or an error within seconds.

The workers are real processes, which are killed. Each fit is made long by its tol, not by its data.
"""

from __future__ import annotations

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
from csoftmax.engine.units import CHUNK_ROWS
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


def test_workers_of_shards_are_killed(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(5):
        some = slice(2 * i * CHUNK_ROWS, 2 * (i + 1) * CHUNK_ROWS)
        np.save(tmp_path / f"x{i}.npy", X[some])
        np.save(tmp_path / f"y{i}.npy", Y[some])
    data = cs.shards(f"{tmp_path}/x*.npy", labels=f"{tmp_path}/y*.npy")
    killed = []
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


def test_the_scheduler_is_killed_and_a_new_cluster_goes_on(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    checkpoint = tmp_path / "state.safetensors"
    monkeypatch.setattr("csoftmax.dask.classifier.CHECKPOINT_SECONDS", 0.0)
    settings = {**SETTINGS, "checkpoint": checkpoint}
    killed_at = 0.0
    with other_cluster(tmp_path) as (pid, address), Client(address) as client:

        def happens(n: int) -> None:
            nonlocal killed_at
            if n == 12:
                killed_at = time.perf_counter()
                kill(pid)

        with at_passes(monkeypatch, happens):
            with pytest.raises(ConnectionError, match="scheduler of the cluster is gone"):
                fitted(SoftmaxClassifier(client=client, **settings), dask_X(), Y)
            assert time.perf_counter() - killed_at < HANGS_AFTER
    assert checkpoint.exists()
    with cluster(2) as (_, client), at_passes(monkeypatch, lambda n: None) as took:
        remote = fitted(SoftmaxClassifier(client=client, **settings), dask_X(), Y)
    assert same(local, remote)
    assert len(took) < local.n_iter_[0]  # it did not begin anew


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
