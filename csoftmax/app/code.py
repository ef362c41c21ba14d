"""The Python and the command line that do what was clicked, to copy and run."""

from __future__ import annotations

import math
import shlex
from typing import Any

from csoftmax.app.data import Data
from csoftmax.app.job import Training
from csoftmax.app.settings import DEFAULTS, grid

_TEXTS = {
    "en": {
        "train": "a new model, trained by minibatches",
        "optimum": "to the optimum, by full passes",
        "sweep": "each C on four fifths of the samples; the rest chooses",
        "split": "the command's --seed also splits the data: these are other test samples",
        "grid": "the command line sweeps over values of C of its own",
        "resume": "goes on from the model that was there: save it first",
        "own": "put your own data sets here",
        "test": "how good it is, and the model as a file",
    },
    "zh": {
        "train": "新建一个模型,用小批量训练",
        "optimum": "用完整遍历走到最优解",
        "sweep": "每个 C 用五分之四的样本训练,其余的样本用来选择",
        "split": "命令的 --seed 也决定数据的划分,因此测试样本不同",
        "grid": "命令行自己选取 C 的值",
        "resume": "从已有的模型继续,请先保存它",
        "own": "在这里放入自己的数据集",
        "test": "模型的好坏,以及模型文件",
    },
}


def code_of(data: Data, run: Training | None, lang: str) -> dict[str, str]:
    """Return {"python", "shell"}: programs that give the same bits as the run."""
    texts = _TEXTS.get(lang, _TEXTS["en"])
    kind = "sgd" if run is None else run.kind
    settings = DEFAULTS[kind] if run is None else run.settings
    lines = _sgd(data, settings, texts) if kind == "sgd" else _passes(data, kind, settings, texts)
    lines += ["", f"# {texts['test']}", "print(cs.evaluate(model, test))",
              'model.save("model.safetensors")']  # fmt: skip
    return {"python": "\n".join(lines) + "\n", "shell": _shell(data, kind, settings, texts)}


def _head(data: Data, texts: dict[str, str], *imports: str) -> list[str]:
    own = [f"# {texts['own']}"] if "..." in data.source.python else []
    return [*imports, "import csoftmax as cs", "", *own, data.source.python]


def _sgd(data: Data, settings: dict[str, Any], texts: dict[str, str]) -> list[str]:
    options = [f"lr={settings['lr']!r}"]
    options += [f"{name}={settings[name]!r}" for name in ("momentum", "nesterov", "weight_decay")
                if settings[name]]  # fmt: skip
    seed = settings["seed"]
    new = f"model = {_model(data, seed)}"
    if settings.get("resume"):
        new = f'model = cs.SoftmaxRegression.load("model.safetensors")  # {texts["resume"]}'
    return [
        *_head(data, texts), "", f"# {texts['train']}", new,
        f"loader = cs.DataLoader.from_dataset(train, {settings['batch_size']}, shuffle=True, "
        f"seed={seed})",
        f"history = cs.train(model, loader, validation=test, epochs={settings['epochs']}, "
        f"optimizer=cs.SGD({', '.join(options)}))",
    ]  # fmt: skip


def _model(data: Data, seed: int | None = None) -> str:
    seeded = "" if seed is None else f", seed={seed}"
    names = "".join(
        f", {name}=train.{name}" for name in ("class_names", "feature_names")
        if getattr(data.train, name)
    )  # fmt: skip
    return f"cs.SoftmaxRegression({data.train.n_features}, {data.n_classes}{seeded}{names})"


def _passes(data: Data, kind: str, settings: dict[str, Any], texts: dict[str, str]) -> list[str]:
    n_classes, l1_ratio = data.n_classes, settings["l1_ratio"]
    options = f"scale=train.scale, tol={settings['tol']!r}, max_iter={settings['max_iter']}"
    solver, half = "minimize", " / 2" if n_classes == 2 else ""
    place = "csoftmax.solver"
    if l1_ratio:
        solver, half, place = "minimize_l1", "", "csoftmax.solver.l1"
        options += f", l1_ratio={l1_ratio!r}" + (", one_row=True" if n_classes == 2 else "")
    X = "X = train.X" if data.train.X.ndim == 2 else "X = train.X.reshape(len(train), -1)"
    call = f"{solver}(X, train.y, {n_classes}, C="
    imports = ["import numpy as np", f"from {place} import {solver}"]
    if kind == "lbfgs":
        C = "np.inf" if settings["C"] == math.inf else repr(settings["C"])
        lines = [*_head(data, texts, *imports), X, "", f"# {texts['optimum']}",
                 f"solution = {call}{C}{half}, {options})"]  # fmt: skip
    else:
        imports.append("from csoftmax.data.split import held_out_rows")
        lines = [
            *_head(data, texts, *imports), X, "", f"# {texts['sweep']}",
            f"Cs = np.array({settings['Cs']!r})",
            f"held = held_out_rows(train.y, 0.2, {settings['seed']})",
            f"options = dict({options})",
            "found = {}", "", "",
            "def keep(progress):",
            "    for k in np.flatnonzero(~progress.running & np.isfinite(progress.estimate)):",
            "        W, b = progress.parameters(k)",
            "        found.setdefault(float(Cs[k]), (W.copy(), b.copy()))", "", "",
            f"sweep = {call}Cs{half}, sample_weight=np.where(held, 0.0, 1.0), path=True, "
            "callback=keep, **options)",
            "found = {float(C): found.get(float(C), (W, b)) "
            "for C, W, b in zip(Cs, sweep.W, sweep.b)}",
            "",
            "",
            "def accuracy(C):",
            "    W, b = found[C]",
            "    return cs.linear_evaluate(X[held], W.T, b, train.y[held], scale=train.scale)[1]",
            "", "",
            "C = max(sorted(found), key=accuracy)",
            "W, b = found[C]",
            f"solution = {call}C{half}, W=W[None], b=b[None], **options)",
        ]  # fmt: skip
    scale = ", scale=train.scale" if data.train.X.dtype.kind in "iub" else ""
    lines += [f"model = {_model(data)[:-1]}{scale})",
              "model.W, model.b = solution.W[0].T, solution.b[0]"]  # fmt: skip
    return lines if data.train.recipe is None else [*lines, "model.recipe = train.recipe"]


def _shell(data: Data, kind: str, settings: dict[str, Any], texts: dict[str, str]) -> str:
    words = ["csoftmax", "train", *data.source.words]
    notes = []
    names: tuple[str, ...] = ("l1_ratio", "tol", "max_iter")
    if kind == "sgd":
        names = ("epochs", "batch_size", "lr", "momentum", "weight_decay", "seed")
    else:
        words += ["--solver", "lbfgs"]
    if kind == "lbfgs":
        names = ("C", *names)
    if kind == "sweep":
        names = (*names, "seed")
        words += ["--sweep", str(len(settings["Cs"] or ()) or 12)]
        if settings["l1_ratio"] or settings["Cs"] not in (None, grid(len(settings["Cs"] or ()))):
            notes.append(texts["grid"])
    for name in names:
        if name != "seed" or settings[name]:
            words += [f"--{name.replace('_', '-')}", str(settings[name])]
    if settings.get("nesterov"):
        words.append("--nesterov")
    if settings.get("resume"):
        words += ["--resume", "model.safetensors"]
        notes.append(texts["resume"])
    if data.source.is_split and settings.get("seed"):
        notes.append(texts["split"])
    if "..." in data.source.python:
        words[2:2] = ["--data", "..."]
        notes.append(texts["own"])
    return "".join(f"# {note}\n" for note in notes) + shlex.join(words) + "\n"
