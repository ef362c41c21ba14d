"""Golden bits: short runs whose results keep every bit, so that moving code changes no number.

    python tools/golden_bits.py            # compare with tests/golden_bits.json
    python tools/golden_bits.py --renew    # write it

The file keeps a hash of each run's results for each instruction set, and beside it a loss and the
norm of the parameters. A step that has to change bits renews the file; the plain numbers show that
they agree to rounding.

Fits go through NumPy, OpenBLAS and SciPy too, whose bits differ from one CPU to the next and from
one version to the next. So the runs are made in a process of their own, in which those use what
every CPU has, and the file says which versions made it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import csoftmax as cs
from csoftmax.solver import minimize

FILE = Path(__file__).parents[1] / "tests" / "golden_bits.json"

# What rounding may change: a loss hardly, parameters more, as the optimum is flat.
LOSS_TOLERANCE, NORM_TOLERANCE = 1e-5, 1e-3

Array = np.ndarray[Any, Any]
Run = tuple[float, list[Any]]  # a loss; the results, the parameters first


def table(dtype: str, n_samples: int, n_features: int, n_classes: int) -> tuple[Array, Array]:
    """Return features and labels that integer arithmetic makes: the same bits everywhere."""
    random = np.random.default_rng(n_samples + n_features)
    whole = random.integers(-40, 41, (n_samples, n_features))
    scores = whole @ random.integers(-9, 10, (n_features, n_classes))
    scores += random.integers(-600, 601, scores.shape)  # no plane parts the classes
    return (whole / 16).astype(dtype), scores.argmax(axis=1)


def weights(dtype: str, n_features: int, n_classes: int) -> tuple[Array, Array]:
    random = np.random.default_rng(n_features + n_classes)
    whole = random.integers(-99, 100, (n_classes, n_features)) / 512
    return whole.astype(dtype).T, (random.integers(-9, 10, n_classes) / 8).astype(dtype)


def pixels(n_samples: int) -> tuple[Array, Array]:
    train, _ = cs.fashion_mnist_sample()
    return train.X.reshape(len(train), -1)[:n_samples], train.y[:n_samples]


def sample_weight(n_samples: int) -> Array:
    return np.random.default_rng(n_samples).integers(0, 5, n_samples) / 4


def epochs(loader: Any, n_features: int, dtype: str, optimizer: Any, n_threads: int) -> Run:
    model = cs.SoftmaxRegression(n_features, 10, dtype=dtype)
    model.W, model.b = weights(dtype, n_features, 10)
    history = cs.train(
        model, loader, epochs=2, optimizer=optimizer, progress=False, n_threads=n_threads
    )
    return history.train_loss[-1], [model.W, model.b, history.train_loss, history.train_accuracy]


def epochs_of_bytes(n_threads: int) -> Run:
    loader = cs.DataLoader(*pixels(3000), 256, shuffle=True, seed=3, scale=1 / 255)
    optimizer = cs.SGD(lr=0.05, momentum=0.9, weight_decay=1e-3)
    return epochs(loader, 784, "float32", optimizer, n_threads)


def epochs_of_floats(n_threads: int) -> Run:
    loader = cs.DataLoader(*table("float32", 1000, 50, 10), 64)  # the last minibatch has 40 rows
    return epochs(loader, 50, "float32", cs.SGD(lr=0.1), n_threads)


def epochs_of_doubles(n_threads: int) -> Run:
    loader = cs.DataLoader(*table("float64", 1000, 50, 10), 128, shuffle=True, seed=5)
    optimizer = cs.SGD(lr=0.02, momentum=0.9, nesterov=True)
    return epochs(loader, 50, "float64", optimizer, n_threads)


def epochs_of_sparse_rows(n_threads: int) -> Run:
    X, y = sparse_rows("float32", 1000, 300, 10)
    loader = cs.DataLoader(X, y, 64, shuffle=True, seed=7)
    optimizer = cs.SGD(lr=0.05, momentum=0.9, weight_decay=1e-3)
    return epochs(loader, 300, "float32", optimizer, n_threads)


def epochs_with_l1(n_threads: int) -> Run:
    X, y = sparse_rows("float64", 500, 200, 10)
    loader = cs.DataLoader(X, y, 50, shuffle=True, seed=7)
    optimizer = cs.SGD(lr=0.1, weight_decay=1e-3, l1=1e-3)
    return epochs(loader, 200, "float64", optimizer, n_threads)


def a_pass(
    X: Any, y: Array, n_classes: int, dtype: str, n_threads: int, weighted: bool = False
) -> Run:
    W, b = weights(dtype, X.shape[1], n_classes)
    options: dict[str, Any] = {
        "scale": 1 / 255 if X.dtype == np.uint8 else 1.0,
        "sample_weight": sample_weight(len(y)) if weighted else None,
        "n_threads": n_threads,
    }
    loss, dW, db = cs.linear_cross_entropy_grad(X, W, b, y, **options)
    losses = cs.linear_cross_entropy(X, W, b, y, reduction="none", **options)
    return float(loss), [dW, db, loss, losses]


def pass_of_bytes(n_threads: int) -> Run:
    return a_pass(*pixels(3000), 10, "float32", n_threads, weighted=True)


def pass_of_halves(n_threads: int) -> Run:
    return a_pass(*table("float16", 1000, 99, 100), 100, "float32", n_threads)


def pass_of_floats(n_threads: int) -> Run:
    return a_pass(*table("float32", 1000, 33, 2), 2, "float32", n_threads)


def pass_of_doubles(n_threads: int) -> Run:
    return a_pass(*table("float64", 1000, 50, 10), 10, "float64", n_threads, weighted=True)


def sparse_rows(dtype: str, n_samples: int, n_features: int, n_classes: int) -> tuple[Any, Array]:
    """Return a table of which one number in eight is kept."""
    from scipy.sparse import csr_array

    X, y = table(dtype, n_samples, n_features, n_classes)
    kept = np.random.default_rng(n_features).integers(0, 8, X.shape) == 0
    return csr_array(X * kept), y


def pass_of_sparse_rows(n_threads: int) -> Run:
    X, y = sparse_rows("float32", 1000, 300, 33)
    return a_pass(X, y, 33, "float32", n_threads, weighted=True)


def pass_of_sparse_doubles(n_threads: int) -> Run:
    X, y = sparse_rows("float64", 500, 200, 10)
    return a_pass(X, y, 10, "float64", n_threads)


def softmax_of_rows(n_threads: int) -> Run:
    """Short rows, long rows and columns; probabilities, their logarithms, gradients."""
    results: list[Any] = []
    for dtype in ("float32", "float64"):
        for n_classes in (2, 10, 33, 1000):
            random = np.random.default_rng(n_classes)
            logits = (random.integers(-99999, 99999, (200, n_classes)) / 7919).astype(dtype)
            y = random.integers(0, n_classes, 200)
            loss, dlogits = cs.softmax_cross_entropy_grad(
                logits, y, label_smoothing=0.1, n_threads=n_threads
            )
            probs = cs.softmax(logits, n_threads=n_threads)
            columns = cs.softmax(logits, axis=0, n_threads=n_threads)
            log_probs = cs.log_softmax(logits, n_threads=n_threads)
            results += [dlogits, probs, columns, log_probs, cs.cross_entropy(probs, y)]
    return float(loss), results


def predictions(n_threads: int) -> Run:
    X, y = pixels(1000)
    model = cs.SoftmaxRegression(784, 10, scale=1 / 255)
    model.W, model.b = weights("float32", 784, 10)
    metrics = cs.evaluate(model, (X, y), n_threads=n_threads)
    logits = model.decision_function(X, n_threads=n_threads)
    halves = cs.linear(table("float16", 500, 99, 100)[0], *weights("float32", 99, 100))
    labels = model.predict(X, n_threads=n_threads)
    return metrics.loss, [logits, model.predict_proba(X), labels, halves, metrics.accuracy]


def solution(X: Array, y: Array, n_classes: int, **options: Any) -> Run:
    found = minimize(X, y, n_classes, **options)
    results = [found.W, found.b, found.objective, found.loss, found.bound, found.estimate]
    return float(found.objective.sum()), [*results, found.gradient_max, found.iterations]


def lbfgs_of_bytes(n_threads: int) -> Run:
    X, y = pixels(1500)
    return solution(X, y, 10, C=0.01, scale=1 / 255, tol=1e-6, n_threads=n_threads)


def lbfgs_of_many_classes(n_threads: int) -> Run:
    """From a start, without the approximate Hessians."""
    X, y = table("float16", 1000, 99, 100)
    W, b = weights("float32", 99, 100)
    options = {"W": W.T[None], "b": b[None], "preconditioner": None, "n_threads": n_threads}
    return solution(X, y, 100, C=0.01, tol=1e-6, **options)


def heads_with_weights(n_threads: int) -> Run:
    """Three heads, two rows of weights, all at once; Hessians of a sample of the rows."""
    X, y = table("float32", 9000, 50, 10)
    rows = np.stack([sample_weight(9000), sample_weight(9000)[::-1]])
    heads = {"C": [0.01, 0.1, 0.1], "weight_of_head": [0, 1, 0], "sample_weight": rows}
    return solution(X, y, 10, preconditioner="full", tol=1e-6, n_threads=n_threads, **heads)


def path_of_C(n_threads: int) -> Run:
    X, y = table("float64", 1000, 50, 10)
    options = {"C": [0.001, 0.01, 0.1, 1.0], "tol": 1e-6, "n_threads": n_threads}
    return solution(X, y, 10, path=True, preconditioner="diagonal", **options)


def newton_of_a_table(n_threads: int) -> Run:
    """A small table, to the maximum of the likelihood, and the standard errors there."""
    X, y = table("float64", 400, 6, 3)
    names = np.array(["ant", "bee", "cat"])[y]
    model = cs.SoftmaxClassifier(
        C=np.inf, tol=1e-10, class_weight={"ant": 2, "cat": 3}, n_threads=n_threads
    ).fit(X, names)
    errors = cs.SoftmaxClassifier(C=np.inf, tol=1e-10, n_threads=n_threads).fit(X, names)
    covariance = errors.standard_errors(X, names).covariance
    log_probs = model.predict_log_proba(X)
    results = [model.coef_, model.intercept_, model.n_iter_, covariance, log_probs]
    return float(-log_probs[np.arange(len(y)), y].mean()), results


def two_classes(n_threads: int) -> Run:
    X, y = table("float32", 1000, 33, 2)
    model = cs.SoftmaxClassifier(
        C=0.1, tol=1e-6, class_weight="balanced", fit_intercept=False, n_threads=n_threads
    ).fit(X, y, sample_weight(1000))
    probs = model.predict_proba(X)
    results = [model.coef_, model.intercept_, model.n_iter_, probs, model.score(X, y)]
    return float(-np.log(probs[np.arange(len(y)), y]).mean()), results


def cross_validation(n_threads: int) -> Run:
    X, y = table("float32", 1000, 99, 10)
    model = cs.SoftmaxClassifierCV(
        Cs=[0.001, 0.01, 0.1], cv=3, tol=1e-7, scoring="neg_log_loss", n_threads=n_threads
    ).fit(X, y, sample_weight(1000))
    results = [model.coef_, model.intercept_, model.C_, model.scores_, model.coefs_paths_]
    return float(-model.scores_.mean()), [*results, model.n_iter_]


def sgd_of_the_estimator(n_threads: int) -> Run:
    X, y = table("float16", 1000, 99, 10)
    model = cs.SoftmaxClassifier(
        solver="sgd", C=0.1, max_iter=4, tol=1e-9, batch_size=50, momentum=0.9, early_stopping=True,
        random_state=0, n_threads=n_threads,
    )  # fmt: skip
    model.partial_fit(X, y, classes=range(10))
    first = model.coef_.copy()
    with_warnings_ignored(lambda: model.fit(X, y))
    probs = model.predict_proba(X)
    results = [model.coef_, model.intercept_, first, model.n_iter_, probs]
    return float(-np.log(probs[np.arange(len(y)), y]).mean()), results


def with_warnings_ignored(work: Callable[[], Any]) -> None:
    """Do work that is stopped before it has converged."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work()


RUNS: tuple[Callable[[int], Run], ...] = (
    epochs_of_bytes,
    epochs_of_floats,
    epochs_of_doubles,
    epochs_of_sparse_rows,
    epochs_with_l1,
    pass_of_bytes,
    pass_of_halves,
    pass_of_floats,
    pass_of_doubles,
    pass_of_sparse_rows,
    pass_of_sparse_doubles,
    softmax_of_rows,
    predictions,
    lbfgs_of_bytes,
    lbfgs_of_many_classes,
    heads_with_weights,
    path_of_C,
    newton_of_a_table,
    two_classes,
    cross_validation,
    sgd_of_the_estimator,
)


def figures(run: Callable[[int], Run], n_threads: int) -> dict[str, Any]:
    """Return the hash of a run's results, its loss, and the norm of its parameters."""
    loss, results = run(n_threads)
    arrays = [np.ascontiguousarray(result) for result in results]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    norm = float(np.linalg.norm(arrays[0].astype(np.float64)))
    return {"bits": digest.hexdigest()[:16], "loss": loss, "norm": norm}


def pinned() -> dict[str, str]:
    """Return an environment in which only csoftmax chooses what to run by the CPU.

    NumPy is told to use its baseline. It names what else it has found itself, because the names
    differ from one version to the next. OpenBLAS is told to see an old CPU that all can be.
    """
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    disabled = os.environ.get("NPY_DISABLE_CPU_FEATURES", "").split()
    here = {
        "NPY_DISABLE_CPU_FEATURES": " ".join([*disabled, *found]),
        "OPENBLAS_CORETYPE": "Nehalem",
        "OPENBLAS_NUM_THREADS": "1",
        # The package under test, wherever this file is.
        "PYTHONPATH": str(Path(cs.__file__).parents[1]),
    }
    return {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"} | here


def measure(isa: str, n_threads: int = 1) -> dict[str, dict[str, Any]]:
    """Return the figures of all runs on an instruction set, made in a process of its own."""
    words = [sys.executable, str(Path(__file__).resolve()), "--of-this-process", str(n_threads)]
    done = subprocess.run(
        words, env=pinned() | {"CSOFTMAX_ISA": isa}, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return result


def made_with() -> dict[str, str]:
    import scipy
    import sklearn

    return {
        "machine": platform.machine(),
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
    }


def differences(
    expected: dict[str, dict[str, Any]], got: dict[str, dict[str, Any]], to_rounding: bool
) -> list[str]:
    """Return a line for each run whose bits (to_rounding: whose plain numbers) differ."""
    lines = [f"{name}: not in the file" for name in got.keys() - expected.keys()]
    lines += [f"{name}: no longer a run" for name in expected.keys() - got.keys()]
    for name in expected.keys() & got.keys():
        one, other = expected[name], got[name]
        close = np.isclose(other["loss"], one["loss"], LOSS_TOLERANCE, 0)
        close = close and np.isclose(other["norm"], one["norm"], NORM_TOLERANCE, 0)
        if not close or (not to_rounding and one["bits"] != other["bits"]):
            kind = "the same to rounding" if close else "NOT the same to rounding"
            lines.append(f"{name}: expected {one}, got {other}: {kind}")
    return sorted(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Golden bits of short runs.")
    parser.add_argument("--renew", action="store_true", help="write tests/golden_bits.json")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--of-this-process", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.of_this_process:
        runs = {run.__name__: figures(run, given.of_this_process) for run in RUNS}
        print(json.dumps(runs))
        return 0

    kept = json.loads(FILE.read_text()) if FILE.exists() else {"made with": None, "sets": {}}
    if kept["made with"] != made_with():
        print(f"the file is of {kept['made with']}, this is {made_with()}")
    sets = {
        isa: measure(isa, given.threads) for isa in cs.info()["instruction sets available"][::-1]
    }
    n_different = 0
    for isa, got in sets.items():
        lines = differences(kept["sets"].get(isa, {}), got, to_rounding=False)
        n_different += len(lines)
        print(f"{isa}: {len(lines)} of {len(got)} runs differ", *lines, sep="\n  ")
    if not given.renew:
        return min(n_different, 1)
    for isa in kept["sets"].keys() - sets.keys():
        print(f"{isa} is left out: this machine cannot make it")
    FILE.write_text(json.dumps({"made with": made_with(), "sets": sets}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
