"""A page on this machine to see softmax regression: train, watch, draw a picture, see why.

``python -m csoftmax app`` opens it; `serve` opens it for a model of one's own. It needs the extra:
``pip install 'csoftmax[app]'``.
"""

from __future__ import annotations

try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
    from PIL import Image as _  # noqa: F401
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "PIL"):
        raise
    raise ImportError(
        f"the page needs {error.name}: pip install 'csoftmax[app]'", name=error.name
    ) from error

from csoftmax.app.data import Data, Source
from csoftmax.app.page import PORT, Page
from csoftmax.app.session import PageSession
from csoftmax.data import Dataset
from csoftmax.model import SoftmaxRegression

__all__ = ["Page", "serve"]


def serve(
    model: SoftmaxRegression | None,
    test: Dataset,
    train: Dataset | None = None,
    *,
    port: int = PORT,
    open_browser: bool = True,
) -> None:
    """Show a model of one's own on a page of this machine, until Ctrl-C.

    The page shows how good the model is on the test data, its mistakes, its weights, and why it
    predicts what it does; one can draw pictures for it, and train anew. It is reachable from this
    machine alone, by the address with the token that is printed. The model that is given stays as
    it is.

    Parameters
    ----------
    model : SoftmaxRegression or None
        None: a new one.
    test : Dataset
        What the model is looked at with.
    train : Dataset, optional
        What a training on the page goes through; None: the test data.
    port : int
        0 takes one that is free.
    open_browser : bool
        Whether to open the page in the browser.

    Raises
    ------
    TypeError, ValueError
        For a model that does not fit the data.
    OSError
        If the port is taken.
    ImportError
        If the extra is not installed.

    Examples
    --------
    >>> import csoftmax as cs
    >>> train, test = cs.fashion_mnist_sample()
    >>> model = cs.SoftmaxRegression(784, 10, seed=0)
    >>> history = cs.train(model, train, epochs=5)
    >>> cs.app.serve(model, test, train)  # doctest: +SKIP
    the page is at http://127.0.0.1:8765/?token=... (Ctrl-C ends it)
    """
    if model is not None and not isinstance(model, SoftmaxRegression):
        raise TypeError(f"model is a {type(model).__name__}, expected a SoftmaxRegression")
    for name, part in (("test", test), ("train", train)):
        if not isinstance(part, Dataset) and not (name == "train" and part is None):
            raise TypeError(f"{name} is a {type(part).__name__}, expected a Dataset")
    whole = test if train is None else train
    data = Data(whole, test, Source(whole.name or "own data", "train, test = ..., ..."))
    Page(PageSession(data, model, is_own=True), port=port).show(open_browser)
