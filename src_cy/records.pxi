# What goes into a pass, by name; engine/calls.py is the one caller. A call makes three or four records. Each
# takes .05 us; a named tuple takes .2, and a call for one row 4 in all. Included by _kernels.pyx.

cdef class StoredRows:
    """Rows of features: ``scale * X[order]``, of which no copy is made."""
    cdef readonly object X, scale, order

    def __init__(self, X, scale=1.0, order=None):
        self.X, self.scale, self.order = X, scale, order


cdef class Parameters:
    """W class-major, (n_classes, n_features), and b (n_classes,), both contiguous.

    Several heads lie one after the other: W (n_heads, n_classes, n_features), b alike.
    """
    cdef readonly object W, b

    def __init__(self, W, b):
        self.W, self.b = W, b


cdef class Targets:
    """The label and the weight of each row of X; without a weight, each row weighs 1.

    y and weight have an item for each row of X, whether or not `order` has that row. The weights are one vector, or
    for heads several, the rows of `weight`: row ``weight_of_head[h]`` is the one of head h; without it, all heads have
    the first.
    """
    cdef readonly object y, weight, weight_of_head

    def __init__(self, y, weight=None, weight_of_head=None):
        self.y, self.weight, self.weight_of_head = y, weight, weight_of_head


cdef class Sink:
    """The results that are wanted; each array is filled in place.

    gradient = (dW, db), like W and b, times `factor`; losses (n_rows,); predictions (n_rows,) int64; logits (n_rows,
    any number of classes), where the first class of W goes to the column `first_class`. n_rows is the length of
    `StoredRows.order`, and the results of a row stand where the row stands in it.
    """
    cdef readonly object gradient, factor, losses, predictions, logits, first_class

    def __init__(self, gradient=None, factor=1.0, losses=None, predictions=None, logits=None, first_class=0):
        self.gradient, self.factor, self.losses = gradient, factor, losses
        self.predictions, self.logits, self.first_class = predictions, logits, first_class
