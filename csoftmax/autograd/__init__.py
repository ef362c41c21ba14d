"""The tape behind the book's ``l.sum().backward()``.

A `Parameter` is what is learned. What is computed from one by the operations below, with NumPy's
names or with the book's, remembers how, and ``backward()`` on a number adds the gradients to
``Parameter.grad``:

- ``+ - * / @ **`` and ``-x`` with broadcasting; ``exp log log1p expm1 sqrt square tanh absolute
  maximum minimum``;
- ``sum mean max min``; indexing, ``reshape transpose squeeze .T copy astype clip``;
- csoftmax's own `linear`, `softmax`, `log_softmax`, `cross_entropy`, `softmax_cross_entropy`.

Comparisons and ``argmax`` have no gradient. Any other operation gives its result all the same, but
``backward()`` through it raises an error that names the operation and its line.

`tape` holds what was recorded and goes back through it, `derivatives` the formulas, `tensor` the
arrays that remember, `parameter` what is learned, `updates` what may be changed in place;
`spellings` and `arguments` speak the book's tensor library.

What leaves the tape is off it: ``numpy.asarray(W)``, ``float(l)``, and libraries that take arrays
apart by themselves (scipy, pandas, scikit-learn). Arrays that are no Tensors, and labels, must not
change between a computation and its ``backward()``.
"""

from csoftmax.autograd.parameter import Parameter
from csoftmax.autograd.tape import Leaf, Node, is_recorded, no_grad, node_of
from csoftmax.autograd.tensor import (
    Tensor,
    record,
    without_derivative,
)
from csoftmax.autograd.updates import refuse_out

__all__ = [
    "Leaf",
    "Node",
    "Parameter",
    "Tensor",
    "is_recorded",
    "no_grad",
    "node_of",
    "record",
    "refuse_out",
    "without_derivative",
]
