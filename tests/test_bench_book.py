"""The benchmark of the book's programs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from csoftmax import reference
from csoftmax.bench import Options, book, main, measure
from csoftmax.bench.measure import WrongResultError
from csoftmax.bench.results import OURS
from csoftmax.bench.run import names_of
from csoftmax.bench.session import Session
from csoftmax.bench.work import image_task
from csoftmax.core.cpus import usable_cpus

PROGRAMS = [book.from_scratch, book.concise]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """One repetition is enough to see that something is measured."""
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 1e-6)
    monkeypatch.setattr(measure, "REST_SECONDS", 0.0)


@pytest.fixture
def session() -> Session:
    return Session(["torch"], 1, quick=True, book=True)


def test_book_measures_the_books_programs_and_nothing_else() -> None:
    names = list(names_of(Options(book=True, peers="none").session))
    assert len(names) == len(set(names)) > 4
    assert all(name.startswith("book/") for name in names)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_goes_on_as_the_reference_does(program: book.Program) -> None:
    task = image_task(True, "uint8")
    epoch = program(book.own_torch, book.batches_in_memory(book.own_torch, task), task)
    W, b = task.W.copy(), task.b.copy()
    for _ in range(2):
        expected, _ = reference.sgd_epoch(task.X, task.y, W, b, None, 256, 0.1, scale=1 / 255)
        assert epoch() == pytest.approx(expected, rel=1e-4)


def test_both_libraries_take_turns_with_the_same_threads(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = [7]
    stand_in = SimpleNamespace(
        **vars(book.own_torch), get_num_threads=lambda: threads[-1], set_num_threads=threads.append
    )
    monkeypatch.setattr(book, "pytorch", lambda session: stand_in)
    usable = usable_cpus()
    results = list(book.both(session, "book/x", book.from_scratch, book.batches_in_memory))
    assert [result.threads for result in results] == session.threads
    assert all(list(result.sides) == [OURS, "PyTorch"] for result in results)
    assert set(threads) == {7, 1, usable}
    assert threads[-1] == 7
    assert usable_cpus() == usable


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("given", [book.batches_in_memory, book.own_loader])
def test_pytorch_runs_the_same_program(session: Session, program: Any, given: Any) -> None:
    pytest.importorskip("torch")
    for result in book.both(session, "book/x", program, given):
        assert result.ratio("PyTorch") is not None


def test_without_pytorch_csoftmax_runs_alone_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("csoftmax.bench.peers.is_installed", lambda name: False)
    main(Options(book=True, quick=True, rounds=1, peers="torch", only="book/Trainer"))
    printed = capsys.readouterr().out
    assert "PyTorch: not installed, so csoftmax ran alone (pip install torch)" in printed
    assert "book/Trainer.fit, compiled" in printed
    assert "from scratch" in printed


def test_a_program_that_does_not_learn_is_no_result(session: Session) -> None:
    def lazy(torch: Any, batches: Any, task: Any) -> book.Epoch:
        return lambda: 2.3

    with pytest.raises(WrongResultError, match="csoftmax: off by"):
        list(book.both(session, "book/x", lazy, book.own_loader))
