"""Sparse data sets: in memory, in minibatches, split, and read from files."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import csoftmax as cs
from csoftmax.core.sparse import CSR
from csoftmax.data import DataError, read, read_features, read_npz, read_parts, read_svmlight

Y = np.array([0, 1, 2, 0, 1, 2, 1])


def rows(dtype: Any = np.float32) -> Any:
    random = np.random.default_rng(0)
    X = random.integers(0, 3, (7, 5)) * (random.random((7, 5)) < 0.5)
    X[3] = 0
    return sparse.csr_array(X.astype(dtype))


# ---- in memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
def test_a_data_set_keeps_rows_sparse(form: str) -> None:
    X = rows()
    data = cs.Dataset(X.asformat(form), Y)
    assert type(data.X) is CSR
    assert (len(data), data.n_features, data.n_classes) == (7, 5, 3)
    assert repr(data) == "Dataset('', X (7, 5) float32, 3 classes)"
    np.testing.assert_array_equal(data.X.tocsr().toarray(), X.toarray())
    assert repr(data.X) == "CSR((7, 5), float32, 11 entries)"
    copy = pickle.loads(pickle.dumps(cs.Dataset(X.astype(np.int16), Y)))
    assert copy.X.kind == "i"
    np.testing.assert_array_equal(copy.X.toarray(), X.toarray())
    if form == "csr":
        assert np.shares_memory(data.X.data, X.data)
    with pytest.raises(ValueError, match="X has 7 samples but y has 6 labels"):
        cs.Dataset(X, Y[:6])


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("shuffle", [True, False])
def test_minibatches_are_those_of_the_array(dtype: Any, shuffle: bool) -> None:
    X = rows(dtype)
    options: dict[str, Any] = {"batch_size": 3, "shuffle": shuffle, "seed": 1, "scale": 0.5}
    ours, dense = cs.DataLoader(X, Y, **options), cs.DataLoader(X.toarray(), Y, **options)
    n = 0
    for (X_batch, y_batch), (expected, labels) in zip(ours, dense, strict=True):
        assert type(X_batch) is CSR
        assert X_batch.dtype == expected.dtype
        np.testing.assert_array_equal(X_batch.toarray(), expected)
        np.testing.assert_array_equal(y_batch, labels)
        n += len(X_batch)
    assert n == len(ours.y) == 7
    # a batch goes into the functions as it comes
    assert cs.linear(X_batch, np.ones((5, 2), np.float32), np.zeros(2, np.float32)).shape == (1, 2)


def test_split_keeps_the_rows_together_with_their_labels() -> None:
    X = sparse.csr_array(np.diag(np.arange(1.0, 41.0)))
    train, test = cs.data.split_dataset(cs.Dataset(X, np.arange(40) % 2), 0.25, seed=3)
    for part in (train, test):
        values = part.X.toarray().sum(axis=1)
        np.testing.assert_array_equal(part.y, (values - 1) % 2)
    assert len(train) + len(test) == 40


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int32, np.float64])
@pytest.mark.parametrize("pair", [True, False])
def test_evaluation_is_that_of_the_array(dtype: Any, pair: bool) -> None:
    X = rows(dtype)
    model = cs.SoftmaxRegression(5, 3, seed=0, scale=0.3, dtype="float64")
    model.W = np.random.default_rng(1).normal(size=(5, 3))
    made = [(data, Y) if pair else cs.Dataset(data, Y, scale=0.3) for data in (X, X.toarray())]
    if not pair and np.dtype(dtype).kind == "f":
        made = [cs.Dataset(data, Y) for data in (X, X.toarray())]
    ours, dense = (cs.evaluate(model, data) for data in made)
    assert ours.loss == pytest.approx(dense.loss, rel=1e-12)
    np.testing.assert_array_equal(ours.confusion, dense.confusion)
    # integers are multiplied by the model's scale, and floats are not
    np.testing.assert_allclose(
        model.decision_function(X), model.decision_function(X.toarray()), rtol=1e-12
    )


# ---- svmlight ------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero_based", [True, False])
@pytest.mark.parametrize("ending", [".svm", ".libsvm", ".svmlight", ".svm.gz"])
def test_svmlight_files_of_scikit_learn(zero_based: bool, ending: str, tmp_path: Path) -> None:
    from sklearn.datasets import dump_svmlight_file

    path, X = tmp_path / f"data{ending}", rows(np.float64)
    dump_svmlight_file(X, Y, str(path), zero_based=zero_based, comment="two\nlines")
    if ending.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    data = read_svmlight(path, dtype="float64")
    np.testing.assert_array_equal(data.X.toarray(), X.toarray())
    assert data.y.tolist() == Y.tolist()
    assert data.class_names == ("0", "1", "2")
    assert data.feature_names[:2] == (("0", "1") if zero_based else ("1", "2"))
    assert read_features(path).dtype == np.float32
    train, test = read(path, test_fraction=0.4)
    assert (len(train), len(test), train.n_features) == (4, 3, 5)


def test_a_file_to_evaluate_counts_as_the_one_that_was_trained_on(tmp_path: Path) -> None:
    # No index 0 here, but the model's features say that they count from 0.
    path = tmp_path / "few.svm"
    path.write_text("1 1:5\n0 2:7 1:1\n")
    names = tuple("01234")
    zero = read_parts(path, feature_names=names)[0]
    assert zero.X.toarray().tolist() == [[0, 5, 0, 0, 0], [0, 1, 7, 0, 0]]
    one = read_parts(path, feature_names=tuple("12345"))[0]
    assert one.X.toarray().tolist() == [[5, 0, 0, 0, 0], [1, 7, 0, 0, 0]]
    assert read_features(path, n_features=4).shape == (2, 4)
    with pytest.raises(DataError, match=r"few.svm: line 2: expected indices 1\.\.1, got 2"):
        read_features(path, n_features=1)
    path.write_text("1 0:5\n0 2:7\n")
    with pytest.raises(DataError, match=r"line 1: expected indices 1\.\.2, got 0"):
        read_parts(path, feature_names=("1", "2"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1:2\n0 3\n", "line 2: expected index:value, got '3'"),
        ("1 1:2\n# nothing\n0 3:4:5\n", "line 3: expected index:value, got '3:4:5'"),
        ("1 1:2\n0 x:4\n", "line 2: expected index:value, got 'x:4'"),
        ("1 1:2\n0 1:1_0\n", "line 2: expected index:value, got '1:1_0'"),
        ("1 -1:2\n0 1:1\n", "line 1: expected index:value, got '-1:2'"),
        ("1 1:2\n0 99999999999:1\n", "line 2: expected index:value"),
        ("1 1:2\n0 1:nan\n", r"X\[1, 0\] is nan, expected finite numbers"),
        ("1 1:2\n1:3\n", "line 2: expected one label before the features, got none"),
        ("1,2 1:2\n0 1:1\n", "line 1: expected one label before the features, got 1,2"),
        ("1.5 1:2\n0 1:1\n", "line 1: expected an integer label"),
        ("1 1:2\n1 1:1\n", "expected at least two classes"),
        ("", "expected at least one sample"),
        ("1\n0\n", "expected at least one sample and one feature"),
    ],
)
def test_svmlight_mistakes(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.svm"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_svmlight(path)


def test_svmlight_labels_and_what_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "odd.svm"
    path.write_text("+1 qid:7 2:1 2:2\n\n-1 # empty\nother 1:1e-3 #\n")
    data = read_svmlight(path)
    assert data.class_names == ("-1", "1", "other")
    np.testing.assert_allclose(data.X.toarray(), [[0, 3], [0, 0], [1e-3, 0]], rtol=1e-7)
    path.write_text("2:3\n1:1\n")  # samples to predict need no labels
    assert read_features(path).toarray().tolist() == [[0, 3], [1, 0]]


# ---- npz of scipy --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
def test_npz_of_scipy(form: str, tmp_path: Path) -> None:
    path, X = tmp_path / "X.npz", rows()
    sparse.save_npz(path, X.asformat(form))
    np.testing.assert_array_equal(read_features(path).toarray(), X.toarray())
    with pytest.raises(DataError, match=r"expected labels: an array y .*y\.npy"):
        read_npz(path)
    np.save(tmp_path / "y.npy", np.array(["a", "b", "c"])[Y])
    data, test = read_npz(path)
    assert (data.class_names, test) == (("a", "b", "c"), None)
    np.testing.assert_array_equal(data.X.toarray(), X.toarray())
    np.testing.assert_array_equal(data.y, Y)


def test_sparse_bytes_are_counts_and_labels_may_be_in_the_file(tmp_path: Path) -> None:
    path, X = tmp_path / "counts.npz", rows(np.uint8)
    np.savez(
        path, format=b"csr", shape=X.shape, data=X.data, indices=X.indices, indptr=X.indptr, y=Y
    )
    data, _ = read_npz(path)
    assert (data.X.dtype, data.scale) == (np.uint8, 1.0)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_an_npz_may_have_names(is_sparse: bool, tmp_path: Path) -> None:
    path, X = tmp_path / "X.npz", rows()
    words = np.array([text.encode() for text in ("game", "jeu", "спорт", "игра", "x")])
    arrays: dict[str, Any] = {"X": X.toarray()}
    if is_sparse:
        arrays = {"format": b"csr", "shape": X.shape, "data": X.data, "indices": X.indices,
                  "indptr": X.indptr}  # fmt: skip
    classes = np.array(["games", "misc", "web"])
    np.savez(path, y=Y, class_names=classes, feature_names=words, **arrays)
    data, _ = read_npz(path)
    assert data.class_names == ("games", "misc", "web")
    assert data.feature_names == ("game", "jeu", "спорт", "игра", "x")
    np.testing.assert_array_equal(data.y, Y)
    assert read_npz(path, class_names=["0", "1", "2", "3"])[0].class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": np.full(11, 5)}, r"indices\[0\] is 5 \(in row 0\)"),
        ({"indptr": np.array([0, 1])}, "expected a csr matrix"),
        ({"indptr": np.zeros(8)}, "indptr: expected integers"),
        ({"shape": np.array([7])}, "expected a shape of two sizes"),
        ({"shape": np.array([-7, 5])}, "expected a shape of two sizes"),
        ({"format": np.array(b"xyz")}, "expected a sparse matrix of the format csr.*got 'xyz'"),
        ({"indices": None}, "expected the array indices of a csr matrix"),
        ({"data": np.array(["a"] * 11)}, "has dtype"),
        ({"feature_names": np.array(["a", "b"])}, "expected 5 names of features.*got 2"),
        ({"feature_names": np.array(["a", "b", "a", "c", "d"])}, "'a' more than once"),
        ({"feature_names": np.array([b"\xff"] * 5)}, "feature_names: expected UTF-8 text"),
        ({"class_names": np.arange(3)}, "class_names: expected names, an array of text, got int64"),
        ({"class_names": np.array(["a", "b"])}, "class '2' is not one of the 2 known classes"),
    ],
)
def test_npz_mistakes(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    X = rows()
    assert X.nnz == 11
    arrays = {"format": np.array(b"csr"), "shape": X.shape, "data": X.data, "indices": X.indices,
              "indptr": X.indptr, "y": Y, **change}  # fmt: skip
    np.savez(tmp_path / "X.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(DataError, match=message):
        read_npz(tmp_path / "X.npz")


def test_names_of_features_are_made_and_told_apart_once(tmp_path: Path) -> None:
    path = tmp_path / "wide.svm"
    path.write_text("1 2:1 40000:2\n0 1:3\n1 7:1\n0 9:1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("csoftmax.data.dataset.check_distinct", lambda *_: pytest.fail("looked"))
        train, test = cs.read(path, test_fraction=0.5)
    assert train.feature_names is test.feature_names
    assert train.feature_names == tuple(map(str, range(1, 40_001)))
