# Rows of X: the functions that Python calls, and what they check. Included by _kernels.pyx.

cdef void *pointer(list views, array, Py_ssize_t size, char kind, bint writable, str name) except? NULL:
    """Where `size` contiguous items lie; `views` gets the view, which keeps the array alive."""
    cdef View view = contiguous(array, size, kind, writable, name)
    views.append(view)
    return view.buffer.buf


cdef char kind_of_floats(array, str name) except 0:
    cdef char kind = View(array, PyBUF_STRIDES).kind()
    if kind != c"f" and kind != c"d":
        raise TypeError(f"{name}: expected float32 or float64")
    return kind


cdef row_data array_of(list views, X) except *:
    """The rows of one array, all of them, without labels."""
    cdef View view = View(X, PyBUF_STRIDES)
    cdef const char *kinds = b"Befd"          # in the order of stored_type
    cdef char kind = view.kind()
    cdef row_data rows
    cdef Py_ssize_t stored = 0
    memset(&rows, 0, sizeof(row_data))
    views.append(view)
    while stored < N_STORED_TYPES and kinds[stored] != kind:
        stored += 1
    if stored == N_STORED_TYPES or view.buffer.ndim != 2:
        raise TypeError("X: expected two dimensions of uint8, float16, float32 or float64")
    rows.stored = <stored_type>stored
    rows.X = <const char *>view.buffer.buf
    rows.n_rows = rows.n_stored = view.buffer.shape[0]
    rows.n_features = view.buffer.shape[1]
    rows.row_stride, rows.column_stride = view.buffer.strides[0], view.buffer.strides[1]
    rows.item_size = view.buffer.itemsize
    rows.row_bytes = rows.n_features * rows.item_size
    rows.reversed = view.reversed()
    # Kernels read contiguous rows of aligned items in native byte order.
    rows.copied = (rows.reversed or (rows.column_stride != rows.item_size and rows.n_features > 1)
                   or (<uintptr_t>rows.X | <uintptr_t>rows.row_stride) % rows.item_size != 0)
    return rows


cdef row_data arrays_of(list views, tuple arrays) except *:
    """The rows of several arrays of one type and width, one after the other."""
    cdef row_data rows, part
    cdef Scratch table = Scratch()
    cdef Py_ssize_t i, n = 0
    if not arrays:
        raise ValueError("X: expected at least one array")
    rows = array_of(views, arrays[0])
    for array in arrays:
        n += len(array)
    rows.at = <const char **>table.take(n * sizeof(char *), zeroed=False)
    views.append(table)
    rows.n_stored = 0
    for array in arrays:
        part = array_of(views, array)
        if (part.stored != rows.stored or part.n_features != rows.n_features or part.reversed != rows.reversed
                or part.column_stride != rows.column_stride or rows.n_stored + part.n_stored > n):
            raise ValueError("X: expected arrays of one type, width and order of bytes")
        for i in range(part.n_stored):
            rows.at[rows.n_stored + i] = part.X + i * part.row_stride
        rows.n_stored += part.n_stored
        rows.copied = rows.copied or part.copied
    rows.n_rows = rows.n_stored
    return rows


cdef row_data rows_of(list views, X, y, order) except *:
    cdef row_data rows = arrays_of(views, X) if isinstance(X, tuple) else array_of(views, X)
    cdef View view
    cdef Py_ssize_t i
    if order is not None:
        rows.n_rows = len(order)
        rows.order = <const int64_t *>pointer(views, order, rows.n_rows, INT64, False, "order")
    if y is not None:
        view = View(y, PyBUF_STRIDES)
        rows.y_kind = view.kind()
        if rows.y_kind not in (c"B", c"H", c"I"):
            rows.y_kind = INT64
        rows.y_size = view.buffer.itemsize
        rows.y = <const char *>pointer(views, y, rows.n_stored, rows.y_kind, False, "y")
    for i in range(rows.n_rows if rows.order != NULL else 0):
        if not 0 <= rows.order[i] < rows.n_stored:
            raise ValueError(f"order[{i}] is {rows.order[i]}, expected 0..{rows.n_stored - 1}")
    return rows


cdef void add_weights(RowPlan p, sample_weight, weight_of_head, bint has_heads) except *:
    cdef row_data *rows = &p.rows
    cdef Py_ssize_t h, i, n_weights = 1 if sample_weight.ndim == 1 else sample_weight.shape[0]
    cdef double smallest = INFINITY, largest = 0.0
    if n_weights < 1:
        raise ValueError("sample_weight has no rows")
    rows.weight = <const double *>pointer(
        p.views, sample_weight, n_weights * rows.n_stored, c"d", False, "sample_weight")
    # With heads, weights never count as uneven: each head is multiplied in the same way, with the same bits, as alone.
    for i in range(0 if has_heads else rows.n_stored):
        largest = max(largest, rows.weight[i])
        if 0.0 < rows.weight[i] < smallest:
            smallest = rows.weight[i]
    rows.uneven_weights = largest > MOST_UNEVEN * smallest
    if weight_of_head is None:
        return
    rows.weight_of_head = <const int64_t *>pointer(
        p.views, weight_of_head, p.n_heads, INT64, False, "weight_of_head")
    for h in range(p.n_heads):
        if not 0 <= rows.weight_of_head[h] < n_weights:
            raise ValueError(f"weight_of_head[{h}] is {rows.weight_of_head[h]}, expected 0..{n_weights - 1}")


cdef void add_results(RowPlan p, char kind, logits, Py_ssize_t first_class, losses, predictions, gradient) except *:
    cdef Py_ssize_t n_rows = p.rows.n_rows, n_classes = p.map.n_classes, n_weights = n_classes * p.rows.n_features
    if logits is not None:
        _, p.sink.logits_stride = logits.shape
        if not 0 <= first_class <= p.sink.logits_stride - n_classes:
            raise ValueError(f"logits: expected {first_class} + {n_classes} classes, got {p.sink.logits_stride}")
        p.sink.logits = <char *>pointer(p.views, logits, n_rows * p.sink.logits_stride, kind, True, "logits")
        p.sink.logits += first_class * p.size
    if losses is not None:
        p.sink.losses = <char *>pointer(p.views, losses, n_rows, kind, True, "losses")
    if predictions is not None:
        p.sink.predictions = <int64_t *>pointer(p.views, predictions, n_rows, INT64, True, "predictions")
    if gradient is not None:
        dW, db = gradient
        p.sink.W.gradient = pointer(p.views, dW, n_weights, kind, True, "dW")
        p.sink.b.gradient = pointer(p.views, db, n_classes, kind, True, "db")
        if n_rows == 0:
            memset(p.sink.W.gradient, 0, n_weights * p.size)
            memset(p.sink.b.gradient, 0, n_classes * p.size)


cdef void add_updates(RowPlan p, char kind, sgd, bias_rate) except *:
    cdef gradient_sink *of_W = &p.sink.W
    cdef gradient_sink *of_b = &p.sink.b
    learning_rate, momentum, nesterov, weight_decay, W_velocity, b_velocity = sgd
    of_W.W, of_b.W = <void *>p.map.W, <void *>p.map.b
    of_W.learning_rate = learning_rate
    of_b.learning_rate = learning_rate if bias_rate is None else bias_rate
    p.sink.freezes_bias = of_b.learning_rate == 0.0
    of_W.momentum = of_b.momentum = momentum
    of_W.nesterov = of_b.nesterov = nesterov
    of_W.weight_decay = weight_decay
    if W_velocity is not None:
        of_W.velocity = pointer(p.views, W_velocity, p.map.n_classes * p.rows.n_features, kind, True, "velocity of W")
        of_b.velocity = pointer(p.views, b_velocity, p.map.n_classes, kind, True, "velocity of b")


cdef void add_tree(RowPass p, tree, Py_ssize_t leaf_rows, int64_t first_leaf) except *:
    cdef View nodes = View(tree, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
    cdef Py_ssize_t n_leaves, n_sums = (p.rows.n_features + 1) * p.map.n_classes + p.n_heads
    if leaf_rows < GRADIENT_CHUNK * PARTIALS or leaf_rows % (GRADIENT_CHUNK * PARTIALS) != 0:
        raise ValueError(f"leaf_rows is {leaf_rows}, expected a multiple of {GRADIENT_CHUNK * PARTIALS}")
    if (not p.sink.has_gradient or p.sink.updates or p.rows.n_rows < 1 or first_leaf < 0
            or nodes.buffer.ndim != 2):
        raise ValueError("tree: expected rows, a gradient that is stored, and nodes (n_levels, n_sums)")
    p.tree.n_levels, p.tree.stride = nodes.buffer.shape[0], n_sums
    p.tree.nodes = <double *>pointer(p.views, tree, p.tree.n_levels * n_sums, c"d", True, "tree")
    p.tree.first, p.leaf_rows = first_leaf, leaf_rows
    n_leaves = first_leaf + max(1, p.rows.n_rows // leaf_rows)
    if n_leaves >> min(p.tree.n_levels, 62) != 0:
        raise ValueError(f"tree has {p.tree.n_levels} levels, too few for {n_leaves} leaves")


def row_pass(X, W, b, double scale, *, y=None, order=None, sample_weight=None, Py_ssize_t batch_rows=0,
             double factor=1.0, gradient=None, sgd=None, bias_rate=None, logits=None, losses=None,
             predictions=None, Py_ssize_t first_class=0, heads=None, weight_of_head=None, tree=None,
             Py_ssize_t leaf_rows=0, int64_t first_leaf=0, int n_threads=1):
    """Pass over the rows of X (in `order`) once; return (sum of losses, number predicted right).

    X (n_stored, n_features) uint8, float16, float32, float64, any strides, or a tuple of such arrays whose rows follow
    each other; W (n_classes, n_features) and
    b (n_classes,) contiguous, float32 or float64. What is given is filled or updated in place:
    logits (n, any number of classes), from `first_class` on; with y (n_stored,) in range, int64 or
    of an unsigned type of at most 4 bytes: losses (n,);
    predictions (n,) int64;
    gradient = (dW, db), scaled by `factor`; sgd = (learning_rate, momentum, nesterov, weight_decay, vW, vb)
    updates W and b after every `batch_rows` rows with the gradient of their mean loss; b at its own rate if
    `bias_rate` is given; where that is 0, b and vb keep their bits, whatever the gradient is.

    heads: so many problems over the same rows, their classes side by side in W, b and the gradient; what is
    returned are then lists, an item per head. sample_weight may be (m, n_stored) with one of its rows for each
    head, as weight_of_head (heads,) int64 says. Where X, W and the logits are finite, every head has the bits
    that it would have alone.

    tree: float64 (n_levels, (n_features + 1) * n_classes + heads), in which the gradients and losses of leaves of
    `leaf_rows` rows are added up as the rule of csoftmax/engine/units.py says, from the leaf `first_leaf` on. The last
    leaf takes the rows that are left; `gradient` is scratch, and what is returned for losses are zeros.
    """
    cdef RowPass p = RowPass()
    p.views = []
    p.rows = rows_of(p.views, X, y, order)
    p.map.n_classes = len(b)
    p.n_heads = 1 if heads is None else heads
    if p.n_heads < 1 or p.map.n_classes % p.n_heads != 0 or p.n_heads > 1 and (
            y is None or losses is not None or predictions is not None):
        raise ValueError(f"heads is {heads}: expected a divisor of {p.map.n_classes}, labels, no results by row")
    if sample_weight is not None:
        add_weights(p, sample_weight, weight_of_head, heads is not None)
    if p.rows.n_features > PY_SSIZE_T_MAX // 64 // max(p.map.n_classes, 1):
        raise ValueError(f"{p.rows.n_features} features of {p.map.n_classes} classes: too many")
    cdef char kind = kind_of_floats(b, "b")
    p.kernels = &isa.f64 if kind == c"d" else &isa.f32
    p.size = 8 if kind == c"d" else 4
    p.sink.updates, p.sink.has_gradient = sgd is not None, sgd is not None or gradient is not None
    if p.map.n_classes == 0 or (p.sink.has_gradient and y is None) or (losses is not None and y is None):
        raise ValueError("expected at least one class, and labels where there is a loss")
    p.map.W = pointer(p.views, W, p.map.n_classes * p.rows.n_features, kind, p.sink.updates, "W")
    p.map.b = pointer(p.views, b, p.map.n_classes, kind, p.sink.updates, "b")
    p.map.scale = p.sink.W.scale = scale
    p.sink.b.scale, p.sink.factor = 1.0, factor
    add_results(p, kind, logits, first_class, losses, predictions, gradient)
    if sgd is not None:
        add_updates(p, kind, sgd, bias_rate)
    if tree is not None:
        add_tree(p, tree, leaf_rows, first_leaf)
    p.plan(batch_rows, n_threads)
    p.allocate()
    p.run()
    if tree is not None:
        p.join_losses()
    cdef Py_ssize_t i
    cdef list losses_of_heads = [0.0] * p.n_heads, correct_of_heads = [0] * p.n_heads
    for i in range(p.n_sums()):
        losses_of_heads[i % p.n_heads] += p.loss_of[i] if tree is None else 0.0
        correct_of_heads[i % p.n_heads] += p.correct_of[i]
    p.memory = None   # now: a helper that is slow to leave keeps p alive while the next pass begins
    return (losses_of_heads[0], correct_of_heads[0]) if heads is None else (losses_of_heads, correct_of_heads)


def linear_gradient(X, dlogits, double scale, dW, db):
    """dW[k, j] = scale * sum_i dlogits[k, i] X[i, j] and db[k] = sum_i dlogits[k, i], on this thread.

    dlogits is class-major (n_classes, n_rows); it, dW and db are contiguous and of one float type. X has rows that
    kernels can read, of any stored type.
    """
    cdef list views = []
    cdef row_data rows = array_of(views, X)
    cdef char kind = kind_of_floats(db, "db")
    cdef const kernel_table *kernels = &isa.f64 if kind == c"d" else &isa.f32
    cdef const way_of_multiplying *floats = kernels.floats[rows.stored]
    cdef Py_ssize_t i, n = rows.n_rows, n_classes = len(db)
    cdef gradient_sink W_sink, b_sink
    if rows.copied:
        raise TypeError("X: expected contiguous native rows")
    memset(&W_sink, 0, sizeof(gradient_sink))
    W_sink.first = W_sink.last = True
    b_sink = W_sink
    cdef const void *d = pointer(views, dlogits, n_classes * n, kind, False, "dlogits")
    W_sink.gradient = pointer(views, dW, n_classes * rows.n_features, kind, True, "dW")
    b_sink.gradient = pointer(views, db, n_classes, kind, True, "db")
    W_sink.scale, b_sink.scale = scale, 1.0
    cdef Scratch pointers = Scratch(), panel = Scratch()
    cdef const void **at = <const void **>pointers.take(n * sizeof(void *))
    cdef void *panel_block = panel.take(floats.gradient_bytes(n, n_classes))
    cdef x_rows x
    memset(&x, 0, sizeof(x_rows))
    x.rows, x.n_rows, x.n_features = at, n, rows.n_features
    with nogil:
        for i in range(n):
            at[i] = rows.X + i * rows.row_stride
        floats.gradient(&x, 0, rows.n_features, d, n, n_classes, &W_sink, panel_block)
        kernels.bias_gradient(n, d, n, n_classes, &b_sink)
