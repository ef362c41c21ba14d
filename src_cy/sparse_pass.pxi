# Sparse rows: a pass over them, their columns, and the checks of what memory safety needs. Included by _kernels.pyx.
#
# W is feature-major, (n_features, ld): the classes of a feature lie side by side, as a row gathers the features that it
# has. A row piece turns rows into logits, losses and dlogits. A column piece waits for all of them, and sums the
# gradient of its features over their rows: a feature belongs to one piece, and its rows come in order.

cdef enum:
    SPARSE_ROWS = 64          # of a row piece: two sums of LOSS_ROWS losses
    COLUMN_PIECES = 256       # at most
    LEAST_ENTRIES = 8192      # of a column piece, with LINE_ENTRIES for each line
    LINE_ENTRIES = 4          # what a line costs besides its entries

# What an entry costs a thread in both products, in seconds: to find its line of W or dlogits, and for each class.
cdef double SPARSE_ENTRY = 6e-9
cdef double SPARSE_CLASS = 0.25e-9


cdef Py_ssize_t int_bytes(View view, str name) except 0:
    """4 or 8: the size of the integers of a contiguous array."""
    cdef char kind = view.kind()
    cdef Py_ssize_t size = view.buffer.itemsize
    if kind not in (c"i", c"l", c"q") or size not in (4, 8) or view.reversed() or view.buffer.ndim != 1 or (
            <uintptr_t>view.buffer.buf % size != 0):
        raise TypeError(f"{name}: expected a contiguous vector of int32 or int64")
    return size


cdef inline int64_t integer_at(const char *items, Py_ssize_t size, Py_ssize_t i) noexcept nogil:
    return (<const int32_t *>items)[i] if size == 4 else (<const int64_t *>items)[i]


cdef class SparseRows:
    """Rows by their entries, as scipy.sparse.csr_array has them, checked: what kernels may follow.

    values (n_entries,) uint8, float32 or float64; indices (n_entries,) and indptr (n_rows + 1,) int32 or int64. Features
    of a row may come in any order and several times. The arrays are not copied; who writes into indices or indptr later
    makes the kernels read foreign memory.
    """
    cdef readonly Py_ssize_t n_rows, n_features, n_entries
    cdef readonly object arrays               # (values, indices, indptr), kept alive
    cdef list views
    cdef const char *values
    cdef const char *indices
    cdef const char *indptr
    cdef char kind                            # of the values
    cdef Py_ssize_t index_size, pointer_size

    def __init__(self, values, indices, indptr, Py_ssize_t n_features):
        cdef View view
        self.arrays, self.views, self.n_features = (values, indices, indptr), [], n_features
        view = View(values, PyBUF_C_CONTIGUOUS)
        self.views.append(view)
        self.kind, self.values, self.n_entries = view.kind(), <const char *>view.buffer.buf, len(values)
        if self.kind not in (c"B", c"f", c"d") or view.reversed() or view.buffer.ndim != 1 or (
                <uintptr_t>view.buffer.buf % view.buffer.itemsize != 0):
            raise TypeError("data: expected a contiguous vector of uint8, float32 or float64")
        view = View(indices, PyBUF_C_CONTIGUOUS)
        self.views.append(view)
        self.index_size, self.indices = int_bytes(view, "indices"), <const char *>view.buffer.buf
        if len(indices) != self.n_entries:
            raise ValueError(f"data has {self.n_entries} entries but indices has {len(indices)}")
        view = View(indptr, PyBUF_C_CONTIGUOUS)
        self.views.append(view)
        self.pointer_size, self.indptr = int_bytes(view, "indptr"), <const char *>view.buffer.buf
        self.n_rows = len(indptr) - 1
        if self.n_rows < 0:
            raise ValueError("indptr is empty, expected n_rows + 1 numbers")
        if not 0 <= n_features < 1 << 31 or self.n_rows >= 1 << 31:
            raise ValueError(f"shape is ({self.n_rows}, {n_features}), expected fewer than 2^31 rows and features")
        self.check()

    cdef int check(self) except -1:
        cdef Py_ssize_t i = 0, bad = -1, e
        cdef int64_t begin, end = 0
        with nogil:
            begin = self.start(0)
            for i in range(self.n_rows):
                end = self.start(i + 1)
                if end < begin or end > self.n_entries or begin < 0:
                    bad = i
                    break
                begin = end
        if bad >= 0 or self.start(0) != 0 or self.start(self.n_rows) != self.n_entries:
            i = max(bad, 0)
            raise ValueError(f"indptr[{i}] is {self.start(i)} and indptr[{min(i + 1, self.n_rows)}] is "
                             f"{self.start(min(i + 1, self.n_rows))}, expected numbers from 0 up to the "
                             f"{self.n_entries} entries, none below the one before")
        with nogil:
            for e in range(self.n_entries):
                if not 0 <= integer_at(self.indices, self.index_size, e) < self.n_features:
                    bad = e
                    break
        if bad >= 0:
            for i in range(self.n_rows):
                if self.start(i + 1) > bad:
                    break
            raise ValueError(f"indices[{bad}] is {integer_at(self.indices, self.index_size, bad)} (in row {i}), "
                             f"expected a feature 0..{self.n_features - 1}")
        return 0

    cdef inline int64_t start(self, Py_ssize_t i) noexcept nogil:
        return integer_at(self.indptr, self.pointer_size, i)

    cdef inline double value(self, Py_ssize_t e) noexcept nogil:
        if self.kind == c"B":
            return (<const unsigned char *>self.values)[e]
        return (<const float *>self.values)[e] if self.kind == c"f" else (<const double *>self.values)[e]

    cdef void copy_entries(self, Py_ssize_t begin, Py_ssize_t end, int32_t *at, char *values,
                           Py_ssize_t size) noexcept nogil:
        """Entries begin..end as kernels want them: int32, and values of the compute type."""
        cdef Py_ssize_t e
        for e in range(begin, end):
            at[e - begin] = <int32_t>integer_at(self.indices, self.index_size, e)
        if size == 4:
            for e in range(begin, end):
                (<float *>values)[e - begin] = <float>self.value(e)
        else:
            for e in range(begin, end):
                (<double *>values)[e - begin] = self.value(e)


cdef class SparseColumns:
    """The same entries by their features: of each, its rows in order, and the values of the compute type."""
    cdef readonly Py_ssize_t n_rows, n_features, n_entries
    cdef readonly Py_ssize_t nbytes
    cdef readonly bint finite                 # is every value a number?
    cdef Py_ssize_t size
    cdef Scratch memory
    cdef sparse_lines lines

    def __init__(self, SparseRows rows, str dtype):
        cdef Py_ssize_t i, e, j, n = rows.n_entries, d = rows.n_features
        cdef int64_t *starts
        cdef int32_t *at
        cdef char *values
        cdef int64_t place
        cdef double value
        cdef bint finite = True
        self.n_rows, self.n_features, self.n_entries = rows.n_rows, d, n
        self.size = 8 if dtype == "float64" else 4
        self.nbytes = (d + 2) * sizeof(int64_t) + n * (sizeof(int32_t) + self.size)
        self.memory = Scratch()
        starts = <int64_t *>self.memory.take(self.nbytes, zeroed=False)
        memset(starts, 0, (d + 2) * sizeof(int64_t))
        values = <char *>(starts + d + 2)
        at = <int32_t *>(values + n * self.size)
        with nogil:
            # starts[j + 1] is where the next entry of feature j goes, and so in the end where feature j + 1 begins
            for e in range(n):
                starts[integer_at(rows.indices, rows.index_size, e) + 2] += 1
            for j in range(2, d + 2):
                starts[j] += starts[j - 1]
            for i in range(rows.n_rows):
                for e in range(rows.start(i), rows.start(i + 1)):
                    j = integer_at(rows.indices, rows.index_size, e)
                    place = starts[j + 1]
                    starts[j + 1] = place + 1
                    at[place] = <int32_t>i
                    value = rows.value(e)
                    finite &= value - value == 0
                    if self.size == 4:
                        (<float *>values)[place] = <float>value
                    else:
                        (<double *>values)[place] = value
        self.finite = finite
        self.lines.starts, self.lines.at, self.lines.values, self.lines.n_lines = starts, at, values, d

    def as_arrays(self):
        """(values, rows, starts): copies, for tests and for what reads columns in Python."""
        import numpy as np
        cdef bint wide = self.size == 8
        values = np.empty(self.n_entries, "f8" if wide else "f4")
        rows, starts = np.empty(self.n_entries, "i4"), np.empty(self.n_features + 1, "i8")
        cdef View view
        for array, source in ((values, <uintptr_t>self.lines.values), (rows, <uintptr_t>self.lines.at),
                              (starts, <uintptr_t>self.lines.starts)):
            view = View(array, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            memcpy(view.buffer.buf, <const void *><uintptr_t>source, view.buffer.len)
        return values, rows, starts


cdef class SparsePass(Team):
    """One pass over sparse rows: logits, losses, predictions and, by columns, the gradient."""
    cdef const kernel_table *kernels
    cdef list views, memory
    cdef SparseRows rows
    cdef SparseColumns columns                # None: no gradient
    cdef Py_ssize_t size, n_classes, n_heads, ld, n_row_pieces, n_column_pieces, most_entries
    cdef const char *W
    cdef const char *b
    cdef Py_ssize_t W_ld
    cdef double scale, factor
    cdef const int64_t *y
    cdef const double *weight
    cdef const int64_t *weight_of_head
    cdef char *logits                         # of the caller, or NULL
    cdef Py_ssize_t logits_stride
    cdef char *losses
    cdef int64_t *predictions
    cdef sparse_sink gradient
    cdef char *db
    cdef char *dlogits                        # (n_rows, ld), of all rows
    cdef char *scratches                      # one per thread
    cdef Py_ssize_t scratch_bytes
    cdef Py_ssize_t *cuts                     # n_column_pieces + 1 features
    cdef double *loss_of
    cdef int64_t *correct_of
    cdef char *bias_of                        # of each row piece: the sum of its dlogits
    cdef bint copies                          # entries are converted, row piece by row piece

    cdef char *take(self, Py_ssize_t n_bytes, bint zeroed=True) except NULL:
        cdef Scratch scratch = Scratch()
        self.memory.append(scratch)
        return scratch.take(n_bytes, zeroed)

    cdef void plan(self, int n_threads) except *:
        cdef Py_ssize_t i, entries, n = self.rows.n_rows, k = self.n_classes
        cdef double seconds = self.rows.n_entries * (SPARSE_ENTRY + SPARSE_CLASS * k) + LOGIT * n * k
        self.n_row_pieces = ceil_div(n, SPARSE_ROWS)
        self.n_column_pieces = 0
        self.ld = round_up(k, 64 // self.size)     # whole cache lines
        self.copies = self.rows.index_size != 4 or self.rows.kind != (c"f" if self.size == 4 else c"d")
        self.most_entries = 0
        if self.copies:
            for i in range(self.n_row_pieces):
                entries = self.rows.start(min((i + 1) * SPARSE_ROWS, n)) - self.rows.start(i * SPARSE_ROWS)
                self.most_entries = max(self.most_entries, entries)
        if self.columns is not None:
            self.cut_columns()
        self.n_tickets = self.n_row_pieces + self.n_column_pieces
        self.n_threads = threads_that_pay(
            n_threads, self.n_row_pieces, max(self.n_column_pieces, self.n_row_pieces), seconds, 2)

    cdef void cut_columns(self) except *:
        """Pieces of about equally many entries."""
        cdef Py_ssize_t d = self.columns.n_features, j = 0, piece = 0
        cdef const int64_t *starts = self.columns.lines.starts
        cdef Py_ssize_t cost = self.columns.n_entries + LINE_ENTRIES * d, share
        cdef Py_ssize_t most = max(1, min(COLUMN_PIECES, cost // LEAST_ENTRIES))
        share = ceil_div(cost, most)
        self.cuts = <Py_ssize_t *>self.take((most + 2) * sizeof(Py_ssize_t))
        for j in range(d):
            if starts[j] + LINE_ENTRIES * j >= (piece + 1) * share and piece < most:
                piece += 1
                self.cuts[piece] = j
        self.n_column_pieces = piece + 1
        self.cuts[piece + 1] = d

    cdef void allocate(self) except *:
        cdef Py_ssize_t n_sums = ceil_div(self.rows.n_rows, LOSS_ROWS) * self.n_heads
        cdef Py_ssize_t block = round_up(SPARSE_ROWS, 32) + 32
        self.scratch_bytes = round_up(
            SPARSE_ROWS * self.ld * self.size + self.n_classes * block * self.size      # logits, both ways
            + SPARSE_ROWS * (2 * sizeof(int64_t) + 2 * self.size)                       # labels, predictions, ...
            + (SPARSE_ROWS + 1) * sizeof(int64_t) + self.most_entries * (4 + self.size) + 256, 64)
        self.scratches = self.take(self.scratch_bytes * self.n_threads, zeroed=False)
        self.loss_of = <double *>self.take(max(n_sums, 1) * 16)
        self.correct_of = <int64_t *>(self.loss_of + n_sums)
        if self.columns is not None:
            self.dlogits = self.take(max(self.rows.n_rows, 1) * self.ld * self.size, zeroed=False)
            self.bias_of = self.take(max(self.n_row_pieces, 1) * self.n_classes * self.size)

    cdef int64_t awaits(self, int64_t ticket) noexcept nogil:
        return self.n_row_pieces if ticket >= self.n_row_pieces else 0

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        cdef Py_ssize_t column = ticket - self.n_row_pieces
        if column < 0:
            self.row_piece(ticket, self.scratches + thread * self.scratch_bytes)
        else:
            self.kernels.sparse_product(
                &self.columns.lines, self.cuts[column], self.cuts[column + 1], self.n_classes, self.dlogits, self.ld,
                False, &self.gradient)

    cdef void row_piece(self, Py_ssize_t piece, char *scratch) noexcept nogil:
        cdef Py_ssize_t first = piece * SPARSE_ROWS, i, h
        cdef Py_ssize_t n = min(SPARSE_ROWS, self.rows.n_rows - first), block = round_up(SPARSE_ROWS, 32) + 32
        cdef char *by_class = scratch + SPARSE_ROWS * self.ld * self.size
        cdef char *rest = by_class + self.n_classes * block * self.size
        cdef int64_t *starts = <int64_t *>(<uintptr_t>(rest + 63) & ~<uintptr_t>63)
        cdef int64_t *labels = starts + SPARSE_ROWS + 1
        cdef int64_t *predictions = labels + SPARSE_ROWS
        cdef char *factors = <char *>(predictions + SPARSE_ROWS)
        cdef char *losses = factors + SPARSE_ROWS * self.size
        cdef char *values = losses + SPARSE_ROWS * self.size
        cdef sparse_lines lines
        cdef sparse_sink sink
        cdef int64_t begin = self.rows.start(first)
        lines.starts, lines.n_lines = starts, n
        for i in range(n + 1):
            starts[i] = self.rows.start(first + i) - begin
        if self.copies:
            lines.values, lines.at = values, <int32_t *>(values + self.most_entries * self.size)
            self.rows.copy_entries(begin, begin + starts[n], <int32_t *>lines.at, values, self.size)
        else:
            lines.values = self.rows.values + begin * self.size
            lines.at = <const int32_t *>self.rows.indices + begin
        sink.out, sink.ld, sink.first_line, sink.bias, sink.scale, sink.adds = scratch, self.ld, 0, self.b, self.scale, 0
        if self.logits != NULL and self.y == NULL and self.predictions == NULL:
            sink.out = self.logits + first * self.logits_stride * self.size
            sink.ld = self.logits_stride
        self.kernels.sparse_product(&lines, 0, n, self.n_classes, self.W, self.W_ld, False, &sink)
        if sink.out != scratch:
            return
        if self.logits != NULL:
            for i in range(n):
                memcpy(self.logits + (first + i) * self.logits_stride * self.size, scratch + i * self.ld * self.size,
                       self.n_classes * self.size)
        self.kernels.transpose(n, self.n_classes, scratch, self.ld, by_class, block)
        if self.y == NULL:
            self.kernels.argmax_columns(n, self.n_classes, by_class, block, self.predictions + first)
            return
        for i in range(n):
            labels[i] = self.y[first + i]
        for h in range(self.n_heads):
            self.losses_of(h, first, n, by_class, block, labels, predictions, factors, losses)
        if self.predictions != NULL:
            memcpy(self.predictions + first, predictions, n * sizeof(int64_t))
        if self.columns is not None:
            self.kernels.transpose(self.n_classes, n, by_class, block, self.dlogits + first * self.ld * self.size,
                                   self.ld)
            self.sum_bias(piece, n, by_class, block)

    cdef void sum_bias(self, Py_ssize_t piece, Py_ssize_t n, const char *by_class, Py_ssize_t block) noexcept nogil:
        cdef gradient_sink sink
        memset(&sink, 0, sizeof(gradient_sink))
        sink.first = sink.last = True
        sink.scale = 1.0
        sink.gradient = self.bias_of + piece * self.n_classes * self.size
        self.kernels.bias_gradient(n, by_class, block, self.n_classes, &sink)

    cdef void losses_of(self, Py_ssize_t head, Py_ssize_t first, Py_ssize_t n, char *by_class, Py_ssize_t block,
                        int64_t *labels, int64_t *predictions, char *factors, char *losses) noexcept nogil:
        """Losses and dlogits of a head, LOSS_ROWS rows at a time."""
        cdef Py_ssize_t i, part, begin, m, k = self.n_classes // self.n_heads, sums
        cdef const double *weight = NULL
        cdef double s, loss, total
        cdef int64_t correct
        if self.weight != NULL:
            weight = self.weight + first
            if self.weight_of_head != NULL:
                weight += self.weight_of_head[head] * self.rows.n_rows
        for i in range(n):
            s = self.factor * (weight[i] if weight != NULL else 1.0)
            if self.size == 4:
                (<float *>factors)[i] = <float>s
            else:
                (<double *>factors)[i] = s
        for part in range(ceil_div(n, LOSS_ROWS)):
            begin = part * LOSS_ROWS
            m = min(LOSS_ROWS, n - begin)
            self.kernels.cross_entropy_columns(
                m, k, by_class + (head * k * block + begin) * self.size, block, labels + begin,
                factors + begin * self.size if self.columns is not None else NULL, losses + begin * self.size,
                predictions + begin)
            total, correct = 0.0, 0
            for i in range(begin, begin + m):
                s = weight[i] if weight != NULL else 1.0
                loss = (<float *>losses)[i] if self.size == 4 else (<double *>losses)[i]
                loss = s * loss if s != 0.0 else 0.0   # 0 even if the loss is NaN
                total += loss
                correct += predictions[i] == labels[i]
                if self.losses != NULL and self.size == 4:
                    (<float *>self.losses)[first + i] = <float>loss
                elif self.losses != NULL:
                    (<double *>self.losses)[first + i] = loss
            sums = (first + begin) // LOSS_ROWS * self.n_heads + head
            self.loss_of[sums] = total
            self.correct_of[sums] = correct

    cdef void finish_bias(self) noexcept:
        """Add up the sums of the row pieces, in order and in float64."""
        cdef Py_ssize_t i, k
        cdef double total
        for k in range(self.n_classes):
            total = 0.0
            for i in range(self.n_row_pieces):
                if self.size == 4:
                    total += (<float *>self.bias_of)[i * self.n_classes + k]
                else:
                    total += (<double *>self.bias_of)[i * self.n_classes + k]
            if self.size == 4:
                (<float *>self.db)[k] = <float>total
            else:
                (<double *>self.db)[k] = total


cdef Py_ssize_t width_of(View view, Py_ssize_t n_lines, Py_ssize_t n_classes, char kind, str name) except -1:
    """How many numbers lie from one line of a C-contiguous matrix to the next: at least n_classes."""
    if view.kind() != kind or view.reversed() or view.buffer.ndim != 2 or view.buffer.shape[0] != n_lines or (
            view.buffer.shape[1] < n_classes or <uintptr_t>view.buffer.buf % view.buffer.itemsize != 0):
        raise ValueError(f"{name}: expected ({n_lines}, {n_classes} or more) of kind {chr(kind)}")
    return view.buffer.shape[1]


def sparse_pass(SparseRows rows, W, b, double scale, *, y=None, sample_weight=None, double factor=1.0, gradient=None,
                SparseColumns columns=None, logits=None, losses=None, predictions=None, heads=None,
                weight_of_head=None, int n_threads=1):
    """Pass over sparse rows once; return (sum of losses, number predicted right), as `row_pass`.

    W (n_features, n_classes or more) and b (n_classes,) contiguous, float32 or float64; gradient = (dW, db) like them,
    which needs `columns`; logits (n_rows, n_classes or more). The rest is as for `row_pass`.
    """
    cdef SparsePass p = SparsePass()
    cdef char kind = kind_of_floats(b, "b")
    cdef View view
    cdef Py_ssize_t i, n = rows.n_rows
    p.views, p.memory = [], []
    p.rows, p.columns = rows, columns if gradient is not None else None
    p.kernels = &isa.f64 if kind == c"d" else &isa.f32
    p.size = 8 if kind == c"d" else 4
    p.n_classes, p.n_heads = len(b), 1 if heads is None else heads
    if p.n_classes == 0 or p.n_heads < 1 or p.n_classes % p.n_heads != 0:
        raise ValueError(f"heads is {heads}: expected a divisor of {p.n_classes} classes")
    if y is None and (gradient is not None or losses is not None or p.n_heads > 1):
        raise ValueError("expected labels where there is a loss")
    if p.n_heads > 1 and (losses is not None or predictions is not None):
        raise ValueError("expected no results by row where there are heads")
    if rows.n_features > PY_SSIZE_T_MAX // 64 // p.n_classes or n > PY_SSIZE_T_MAX // 64 // p.n_classes:
        raise ValueError(f"{n} rows, {rows.n_features} features of {p.n_classes} classes: too many")
    view = View(W, PyBUF_C_CONTIGUOUS)
    p.views.append(view)
    p.W_ld, p.W = width_of(view, rows.n_features, p.n_classes, kind, "W"), <const char *>view.buffer.buf
    p.b = <const char *>pointer(p.views, b, p.n_classes, kind, False, "b")
    p.scale, p.factor = scale, factor
    if y is not None:
        p.y = <const int64_t *>pointer(p.views, y, n, INT64, False, "y")
    if sample_weight is not None:
        i = 1 if sample_weight.ndim == 1 else sample_weight.shape[0]
        p.weight = <const double *>pointer(p.views, sample_weight, i * n, c"d", False, "sample_weight")
        if weight_of_head is not None:
            p.weight_of_head = <const int64_t *>pointer(
                p.views, weight_of_head, p.n_heads, INT64, False, "weight_of_head")
            for h in range(p.n_heads):
                if not 0 <= p.weight_of_head[h] < i:
                    raise ValueError(f"weight_of_head[{h}] is {p.weight_of_head[h]}, expected 0..{i - 1}")
    if logits is not None:
        view = View(logits, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        p.views.append(view)
        p.logits_stride, p.logits = width_of(view, n, p.n_classes, kind, "logits"), <char *>view.buffer.buf
    if losses is not None:
        p.losses = <char *>pointer(p.views, losses, n, kind, True, "losses")
    if predictions is not None:
        p.predictions = <int64_t *>pointer(p.views, predictions, n, INT64, True, "predictions")
    if gradient is not None:
        if columns is None or columns.n_rows != n or columns.n_features != rows.n_features or columns.size != p.size:
            raise ValueError("columns: expected those of the rows, of the compute type")
        dW, db = gradient
        view = View(dW, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        p.views.append(view)
        p.gradient.ld = width_of(view, rows.n_features, p.n_classes, kind, "dW")
        p.gradient.out, p.gradient.scale = view.buffer.buf, scale
        p.db = <char *>pointer(p.views, db, p.n_classes, kind, True, "db")
    p.plan(n_threads)
    p.allocate()
    p.run()
    cdef list losses_of_heads = [0.0] * p.n_heads, correct_of_heads = [0] * p.n_heads
    if y is not None:
        for i in range(ceil_div(n, LOSS_ROWS) * p.n_heads):
            losses_of_heads[i % p.n_heads] += p.loss_of[i]
            correct_of_heads[i % p.n_heads] += p.correct_of[i]
    if gradient is not None:
        p.finish_bias()
    p.memory = None
    return (losses_of_heads[0], correct_of_heads[0]) if heads is None else (losses_of_heads, correct_of_heads)


cdef class SparseGradient(Team):
    """The sums of columns alone, of dlogits that somebody else has made."""
    cdef SparsePass plan

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        self.plan.kernels.sparse_product(
            &self.plan.columns.lines, self.plan.cuts[ticket], self.plan.cuts[ticket + 1], self.plan.n_classes,
            self.plan.dlogits, self.plan.ld, self.squares, &self.plan.gradient)

    cdef bint squares


def sparse_gradient(SparseColumns columns, dlogits, double scale, dW, *, bint squares=False, int n_threads=1):
    """dW[j, k] = scale * sum_i X[i, j] dlogits[i, k], or of the squares of X; all contiguous, of one float type.

    dlogits is (n_rows, n_classes or more), dW (n_features, n_classes).
    """
    cdef SparsePass p = SparsePass()
    cdef SparseGradient team = SparseGradient()
    cdef char kind = c"d" if columns.size == 8 else c"f"
    cdef View view
    p.views, p.memory, p.columns = [], [], columns
    p.kernels = &isa.f64 if columns.size == 8 else &isa.f32
    p.size = columns.size
    view = View(dW, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
    p.views.append(view)
    if view.buffer.ndim != 2 or view.buffer.shape[1] < 1:
        raise ValueError("dW: expected (n_features, n_classes), at least one class")
    p.n_classes = view.buffer.shape[1]
    p.gradient.ld = width_of(view, columns.n_features, p.n_classes, kind, "dW")
    p.gradient.out, p.gradient.scale = view.buffer.buf, scale
    view = View(dlogits, PyBUF_C_CONTIGUOUS)
    p.views.append(view)
    p.ld, p.dlogits = width_of(view, columns.n_rows, p.n_classes, kind, "dlogits"), <char *>view.buffer.buf
    p.cut_columns()
    team.plan, team.squares = p, squares
    team.n_tickets = p.n_column_pieces
    team.n_threads = threads_that_pay(
        n_threads, p.n_column_pieces, p.n_column_pieces,
        columns.n_entries * (SPARSE_ENTRY + SPARSE_CLASS * p.n_classes) / 2, 0)
    team.run()
