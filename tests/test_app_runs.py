"""A run of the page: its events, its figures, its bits, and what holds it up."""

from __future__ import annotations

import base64
import contextlib
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_cases import model_of, own_data, served
from commands import SAMPLE
from training_cases import synthetic

import csoftmax as cs
from csoftmax.app.job import Control
from csoftmax.app.safety import Refusal
from csoftmax.cli import main
from csoftmax.solver import minimize

SGD = {"epochs": 3, "lr": 0.05, "momentum": 0.9, "batch_size": 64, "seed": 5, "slices": 7}


def trained_by_command(folder: Path, *words: object) -> cs.SoftmaxRegression:
    given = ["train", "--data", SAMPLE, "--out", folder / "run", "--no-plots", "--quiet", *words]
    assert main([str(word) for word in given]) == 0
    return cs.SoftmaxRegression.load(folder / "run" / "model.safetensors")


def assert_same(one: cs.SoftmaxRegression, other: cs.SoftmaxRegression) -> None:
    assert one.W.tobytes() == other.W.tobytes()
    assert one.b.tobytes() == other.b.tobytes()
    assert one.trained_with == other.trained_with
    assert one.scale == other.scale


def test_a_run_has_the_bits_and_figures_of_the_command_line(tmp_path: Path) -> None:
    with served() as (_, client):
        run = client.train(kind="sgd", **SGD)
        model = model_of(client, tmp_path)
        table = client.ask("GET", "/history.csv").body.decode().splitlines()
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SGD.items()
             if name != "slices"]  # fmt: skip
    assert_same(model, trained_by_command(tmp_path, *words))
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert lines[0] == table[0]
    assert len(lines) == len(table) == 4
    for line, other, epoch in zip(lines[1:], table[1:], run["epochs"], strict=True):
        figures, theirs = ([float(x) for x in text.split(",")] for text in (line, other))
        assert figures[:5] == pytest.approx([epoch[k] for k in (0, 1, 2, 3, 4)], rel=1e-12)
        assert figures[:5] == pytest.approx(theirs[:5], rel=1e-12)
    assert (run["status"], run["x_end"], len(run["slices"])) == ("done", 3, 21)
    assert run["slices"][-1][0] == 3


def test_full_passes_have_the_bits_of_the_command_line(tmp_path: Path) -> None:
    with served() as (_, client):
        run = client.train(kind="lbfgs", C=0.001, tol=0.01)
        model = model_of(client, tmp_path)
    assert_same(model, trained_by_command(tmp_path, "--C=0.001", "--tol=0.01", "--solver=lbfgs"))
    number, objective, estimate, loss = run["passes"][-1]
    assert run["passes"][0][0] < number
    assert 0 <= estimate <= 0.01 * objective
    train, _ = cs.fashion_mnist_sample()
    assert loss == pytest.approx(cs.evaluate(model, train).loss, rel=1e-4)


def test_l1_has_the_bits_of_the_command_line(tmp_path: Path) -> None:
    settings = {"kind": "lbfgs", "C": 0.002, "l1_ratio": 1.0, "tol": 0.05}
    with served() as (_, client):
        run = client.train(**settings)
        model = model_of(client, tmp_path)
    words = ("--C=0.002", "--l1-ratio=1", "--tol=0.05")
    assert_same(model, trained_by_command(tmp_path, *words))
    train, _ = cs.fashion_mnist_sample()
    assert run["passes"][-1][3] == pytest.approx(cs.evaluate(model, train).loss, rel=1e-4)


def test_a_sweep_has_the_bits_of_the_command_line(tmp_path: Path) -> None:
    with served() as (_, client):
        run = client.train(kind="sweep", Cs=3, tol=0.1, max_iter=20)
        model = model_of(client, tmp_path)
    words = ("--sweep=3", "--tol=0.1", "--max-iter=20")
    other = trained_by_command(tmp_path, *words)
    assert_same(model, other)
    assert [row[0] for row in run["sweep"]] == pytest.approx([1e-6, 10**-0.5, 1e5])
    table = np.genfromtxt(tmp_path / "run" / "sweep.csv", delimiter=",", names=True)
    sweep = np.array(run["sweep"])
    for column, name in ((1, "train_accuracy"), (5, "validation_loss"),
                         (6, "validation_accuracy"), (4, "n_features")):  # fmt: skip
        np.testing.assert_allclose(sweep[:, column], table[name], rtol=1e-6)
    assert run["best_C"] == max(run["sweep"], key=lambda row: row[6])[0]


def test_two_classes_have_the_bits_of_the_command_line(tmp_path: Path) -> None:
    data = synthetic(300, 6, 2)
    np.savez(tmp_path / "two.npz", X=data.X, y=data.y)
    words = ["train", "--data", tmp_path / "two.npz", "--no-plots", "--solver", "lbfgs"]
    for k, l1_ratio in enumerate((0.0, 0.5)):
        with served() as (_, client):
            client.post("/data", (tmp_path / "two.npz").read_bytes(), x_file_name="two.npz")
            client.train(kind="lbfgs", C=0.1, l1_ratio=l1_ratio)
            model = model_of(client, tmp_path)
        out = tmp_path / f"out{k}"
        more = ["--C", 0.1, "--l1-ratio", l1_ratio, "--out", out]
        assert main([str(word) for word in (*words, *more)]) == 0
        assert_same(model, cs.SoftmaxRegression.load(out / "model.safetensors"))


def test_pause_step_and_stop() -> None:
    with served() as (_, client), client.listen() as stream:
        for do in ("pause", "resume", "step", "stop", "pace"):
            assert "no training" in client.refusal(409, "POST", "/control", {"do": do, "pace": 1})
        client.post("/run", {"epochs": 500, "pace": 0.02})
        assert "stop it first" in client.refusal(409, "POST", "/run", {})
        assert "not paused" in client.refusal(409, "POST", "/control", {"do": "resume"})
        client.post("/control", {"do": "pause"})
        stream.until(lambda event: event.data.get("status") == "paused")
        for path, body in (("/data", {"set": "sample"}), ("/model", b""), ("/run", {})):
            if path != "/model":
                assert "stop it first" in client.refusal(409, "POST", path, body)
        before = client.get("/state")["run"]
        assert before["status"] == "paused"
        for k in range(1, 3):
            client.post("/control", {"do": "step"})
            x = (len(before["slices"]) + k - 1) / 10  # the last x so far, then one more
            stream.until(lambda event, x=x: event.name == "slice" and event.data["x"] > x + 0.05)
        client.post("/control", {"do": "step"})
        client.post("/control", {"do": "stop"})
        ended = stream.until(lambda event: event.data.get("status") == "stopped")
        assert ended.data["error"] is None
        run = client.get("/state")["run"]
        assert run["status"] == "stopped"
        assert len(before["slices"]) + 2 <= len(run["slices"]) <= len(before["slices"]) + 3
        assert client.get("/state")["model"]["trained"]


def test_what_is_stopped_is_whole_and_can_go_on(tmp_path: Path) -> None:
    train, test = cs.fashion_mnist_sample()
    with served() as (_, client):
        with client.listen() as stream:
            client.post("/run", {"epochs": 500, "pace": 0.05})
            stream.until(lambda event: event.name == "slice" and event.data["x"] >= 0.3)
            client.post("/control", {"do": "stop"})
            stream.until(lambda event: event.data.get("status") == "stopped")
        n = len(client.get("/state")["run"]["slices"])
        model = model_of(client, tmp_path)
        other = cs.SoftmaxRegression(784, 10, seed=0)
        loader = cs.DataLoader.from_dataset(train, 256, shuffle=True, seed=0)
        parts = cs.train_slices(other, loader, validation=test, epochs=500)
        for _ in range(n):
            next(parts)
        assert_same(model, other)
        client.train(epochs=1, seed=3, resume=True)
        loader = cs.DataLoader.from_dataset(train, 256, shuffle=True, seed=3)
        cs.train(other, loader, epochs=1)
        assert other.W.tobytes() == model_of(client, tmp_path).W.tobytes()


def test_passes_pause_and_stop_with_the_best_so_far(tmp_path: Path) -> None:
    with served() as (_, client), client.listen() as stream:
        client.post("/run", {"kind": "lbfgs", "C": 100, "tol": 0, "pace": 0.02})
        client.post("/control", {"do": "pause"})
        stream.until(lambda event: event.data.get("status") == "paused")
        for _ in range(6):
            n = len(stream.named("pass"))
            client.post("/control", {"do": "step"})
            stream.until(lambda event, n=n: len(stream.named("pass")) > n)
        last = stream.named("pass")[-1].data
        client.post("/control", {"do": "stop"})
        stream.until(lambda event: event.data.get("status") == "stopped")
        model = model_of(client, tmp_path)
        assert model.trained_with["solver"] == "lbfgs"
        train, _ = cs.fashion_mnist_sample()
        assert cs.evaluate(model, train).loss == pytest.approx(last["loss"], rel=1e-4)
        assert last["loss"] < 0.9 * math.log(10)


def test_reset_forgets_the_run_and_its_model(tmp_path: Path) -> None:
    with served() as (_, client):
        client.post("/run", {"epochs": 500, "seed": 3, "pace": 0.05})
        client.post("/control", {"do": "reset"})
        state = client.get("/state")
        assert state["run"] is None
        assert not state["model"]["trained"]
        fresh = cs.SoftmaxRegression(784, 10, seed=3)
        assert model_of(client, tmp_path).W.tobytes() == fresh.W.tobytes()
        client.post("/control", {"do": "reset"})  # nothing is there: it is as it was
        with client.listen() as later:
            later.until(lambda event: event.name == "model")
            assert later.named("run")[0].data is None


@pytest.mark.parametrize("lr", [50.0, 1e38])
def test_a_training_that_diverges_says_so(lr: float) -> None:
    with served() as (_, client), client.listen() as stream:
        client.post("/run", {"epochs": 2, "lr": lr, "pace": 0})
        stream.until(lambda event: event.data.get("status") == "failed")
        run = client.get("/state")["run"]
        assert "smaller learning rate" in run["error"]
        assert len(run["epochs"]) == (2 if lr == 50 else 1)
        assert (run["slices"][-1][1] is None) == (lr != 50)  # JSON has no NaN
        client.train(epochs=1)


def test_a_run_that_cannot_be_says_why() -> None:
    X = np.full((20, 3), np.nan, np.float32)
    data = cs.Dataset(X, np.arange(20) % 2)
    with served(own_data(data, data)) as (_, client), client.listen() as stream:
        client.post("/run", {"kind": "lbfgs"})
        failed = stream.until(lambda event: event.data.get("status") == "failed")
        assert "X[0, 0] is nan" in failed.data["error"]


def test_the_pace_is_kept_and_can_be_changed() -> None:
    with served() as (_, client), client.listen() as stream:
        client.post("/run", {"epochs": 1, "pace": 10})
        stream.until(lambda event: event.name == "slice")
        client.post("/control", {"do": "pace", "pace": 0})
        done = stream.until(lambda event: event.data.get("status") == "done")
        assert done.data["pace"] == 0
        assert 0 < done.data["seconds"] < 5  # ten seconds of waiting are none of training


def test_weights_come_as_they_are(tmp_path: Path) -> None:
    with served() as (_, client), client.listen() as stream:
        client.train(epochs=1)
        model = model_of(client, tmp_path)
        limit = float(np.abs(model.W).max())
        last = stream.until(
            lambda event: event.name == "weights" and event.data["limit"] == pytest.approx(limit)
        )
        assert last.number is None
        assert last.data["shape"] == [10, 28, 28]
        small = np.frombuffer(base64.b64decode(last.data["int8"]), np.int8).reshape(10, 784)
        np.testing.assert_allclose(small * (limit / 127), model.W.T, atol=0.51 * limit / 127)


def test_what_is_looked_at_is_never_half_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of a run is torn while a slice runs; what the page reads is not."""
    from csoftmax.engine import calls

    torn, looked = threading.Event(), threading.Event()
    minibatches = calls.minibatches

    def slowly(rows: Any, parameters: Any, *others: Any) -> Any:
        whole = parameters.W.copy()
        parameters.W[...] = np.nan
        torn.set()
        looked.wait(30)
        parameters.W[...] = whole
        return minibatches(rows, parameters, *others)

    monkeypatch.setattr(calls, "minibatches", slowly)
    with served() as (_, client):
        client.post("/run", {"epochs": 1, "slices": 2, "pace": 0})
        assert torn.wait(30)
        for _ in range(3):
            assert None not in client.get("/why?row=0")["logits"]
            assert client.get("/confusion")["loss"] is not None
        looked.set()
        client.get("/state")


def test_control_lets_each_step_through_once() -> None:
    told: list[str] = []
    control = Control(0, told.append)
    assert control.go_on()
    control.pause()
    control.step()
    control.step()
    assert control.go_on()
    assert control.go_on()
    waiting = threading.Thread(target=control.go_on)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    control.resume()
    waiting.join(30)
    assert not waiting.is_alive()
    assert told == ["paused", "running"]
    control.stop()
    assert not control.go_on()


def test_the_callback_of_the_solver_is_a_pause() -> None:
    """What the page does, a notebook can do: a callback that waits holds the solver up."""
    train, _ = cs.fashion_mnist_sample()
    X, seen = train.X.reshape(len(train), -1), []
    go = threading.Event()

    def wait(progress: Any) -> None:
        go.wait(30)
        seen.append(progress.n_passes)

    threading.Timer(0.01, go.set).start()
    options: Any = {"C": 0.001, "scale": 1 / 255, "tol": 0.1}
    paused = minimize(X, train.y, 10, callback=wait, **options)
    assert seen
    assert paused.W.tobytes() == minimize(X, train.y, 10, **options).W.tobytes()


def test_many_hands_on_the_controls_at_once() -> None:
    with served() as (page, client):
        client.post("/run", {"epochs": 1000, "pace": 0})
        control = page.session.control

        def press(*actions: str) -> None:
            for do in actions * 40:
                with contextlib.suppress(Refusal):
                    control({"do": do, "pace": 0})
                    page.session.state()

        hands = [threading.Thread(target=press, args=actions) for actions in
                 (("pause", "resume"), ("step", "resume", "pace"), ("pace", "pause"))]  # fmt: skip
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join(60)
            assert not hand.is_alive()
        control({"do": "stop"})
        assert page.session.job is not None
        page.session.job.join(60)
        assert client.get("/state")["run"]["status"] == "stopped"


def test_a_model_that_is_new_is_looked_at_as_it_will_be_trained() -> None:
    with served() as (_, client):
        p = client.get("/why?row=3")["probabilities"]
        assert max(p) < 0.2  # pixels are 0..1, not 0..255
        wrong = client.get("/confusion")
        assert wrong["loss"] == pytest.approx(math.log(10), abs=0.1)
