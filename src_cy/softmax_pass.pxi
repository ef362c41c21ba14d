# Rows of logits: softmax, log_softmax, cross-entropy. Included by _kernels.pyx.

cdef enum:
    ROWS_OF_BLOCK = 32
    FEW_CLASSES = 32         # with more, a row fills the lanes well enough by itself
    SCRATCH_CLASSES = 8192   # of a block, at most: 1 MB of float
    PIECE_LOGITS = 8192      # of the rows, or blocks, of a piece
    ROWS_AT_ONCE = 16        # short rows, as many as the widest vectors have lanes
    PAST_CACHES_ROW = 4096   # bytes of a row, at least, for a result that is written past the caches
    PAST_CACHES_OUTPUT = 1 << 26  # bytes of that result, at least: L3 does not keep it


cdef class SoftmaxPass(Team):
    """Softmax along the middle axis of (n_outer, n_classes, n_inner) logits, in one of two ways.

    With few classes, or where n_inner is large, so that a class of one row lies beside that of the next, a block of
    rows is brought into class-major scratch and back: the lanes are rows. Otherwise the pass goes row by row, and the
    lanes are classes; a row whose classes are not side by side is copied into scratch and back.
    """
    cdef const kernel_table *kernels
    cdef rows_kernel kernel                   # softmax or log_softmax; NULL: cross-entropy
    cdef list views
    cdef Py_ssize_t size, n_outer, n_classes, n_inner, piece_rows
    cdef const char *x
    cdef Py_ssize_t x_strides[3]
    cdef char *out                            # C-contiguous, or NULL
    # cross-entropy
    cdef const char *dense                    # a target for each logit, or NULL
    cdef Py_ssize_t dense_strides[3]
    cdef const int64_t *y
    cdef int64_t ignored
    cdef const char *label_weight
    cdef char *losses
    cdef double factor
    cdef Scratch scratch
    cdef char *scratches                      # one per thread
    cdef Py_ssize_t row_bytes, scratch_bytes
    cdef bint by_blocks, adjacent, past_caches
    cdef Py_ssize_t n_blocks, piece_blocks
    cdef Py_ssize_t blocks_per_outer           # where n_inner > 1

    cdef char *strided(self, array, Py_ssize_t *strides) except NULL:
        cdef View view = View(array, PyBUF_STRIDES)
        cdef int d
        if view.buffer.ndim != 3 or view.kind() != (c"d" if self.size == 8 else c"f") or view.reversed():
            raise ValueError("expected (n_outer, n_classes, n_inner) of the compute type")
        for d in range(3):
            strides[d] = view.buffer.strides[d]
            if view.buffer.shape[d] != (self.n_outer, self.n_classes, self.n_inner)[d]:
                raise ValueError("expected the shape of the logits")
        self.views.append(view)
        return <char *>view.buffer.buf

    cdef void plan(self, int n_threads) except *:
        cdef Py_ssize_t n_rows = self.n_outer * self.n_inner
        cdef bint plain = self.kernel != NULL or (self.dense == NULL and self.label_weight == NULL)
        # Shape and kind of target decide, never the strides: the same numbers in another layout give the same bits.
        self.by_blocks = plain and (self.n_classes <= FEW_CLASSES if self.n_inner == 1 else
                                    self.n_classes <= SCRATCH_CLASSES and self.n_inner >= ROWS_OF_BLOCK // 2)
        self.row_bytes = round_up(self.n_classes * self.size, 64)
        if self.by_blocks:
            self.blocks_per_outer = ceil_div(self.n_inner, ROWS_OF_BLOCK)
            self.n_blocks = ceil_div(self.n_outer, ROWS_OF_BLOCK) if self.n_inner == 1 else (
                self.n_outer * self.blocks_per_outer)
            self.piece_blocks = max(1, PIECE_LOGITS // (ROWS_OF_BLOCK * self.n_classes))
            self.n_tickets = ceil_div(self.n_blocks, self.piece_blocks)
            self.scratch_bytes = ROWS_OF_BLOCK * (self.n_classes + 1) * self.size + 2 * ROWS_OF_BLOCK * sizeof(int64_t)
        else:
            self.piece_rows = max(1, min(256, PIECE_LOGITS // self.n_classes))
            if self.piece_rows > ROWS_AT_ONCE:
                self.piece_rows -= self.piece_rows % ROWS_AT_ONCE
            # If rows are many, a piece has 8 even of long ones: the thread that had one has fetched the next.
            self.piece_rows = max(self.piece_rows, min(8, n_rows // 64))
            self.n_tickets = ceil_div(n_rows, self.piece_rows)
            self.past_caches = (self.row_bytes >= PAST_CACHES_ROW
                                and n_rows * self.n_classes * self.size >= PAST_CACHES_OUTPUT)
            # Can one call of a kernel take many rows as they lie? If not, it is called for each row, copied if need be.
            self.adjacent = (self.dense == NULL and self.n_inner == 1 and self.x_strides[1] == self.size
                             and (<uintptr_t>self.x | <uintptr_t>self.x_strides[0]) % self.size == 0)
            self.scratch_bytes = 3 * self.row_bytes   # of logits, result and target
            if self.adjacent:
                self.scratch_bytes = 2 * min(self.row_bytes, <Py_ssize_t>MOST_KEPT) if self.past_caches else 0
        cdef double seconds = LOGIT * n_rows * self.n_classes * self.size / 4
        self.n_threads = threads_that_pay(n_threads, self.n_tickets, self.n_tickets, seconds, 0)
        self.scratch_bytes = round_up(self.scratch_bytes, 64)
        self.scratch = Scratch()
        self.scratches = self.scratch.take(self.scratch_bytes * self.n_threads)

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        cdef char *scratch = self.scratches + thread * self.scratch_bytes
        cdef Py_ssize_t begin = ticket * self.piece_rows, end, r
        if self.by_blocks:
            for r in range(ticket * self.piece_blocks, min((ticket + 1) * self.piece_blocks, self.n_blocks)):
                self.block(r, scratch)
            return
        end = min(begin + self.piece_rows, self.n_outer * self.n_inner)
        cdef const char *x = self.x + begin * self.x_strides[0]
        cdef char *out = NULL
        cdef char *kept = scratch if self.past_caches else NULL
        if self.out != NULL:
            out = self.out + begin * self.n_classes * self.size
        if not self.adjacent:
            for r in range(begin, end):
                self.one_row(r // self.n_inner, r % self.n_inner, r, scratch)
        elif self.kernel != NULL:
            self.kernel(end - begin, self.n_classes, x, self.x_strides[0] // self.size, out, self.n_classes, kept)
        else:
            self.kernels.cross_entropy_rows(
                end - begin, self.n_classes, x, self.x_strides[0] // self.size, NULL, 0, self.y + begin, self.ignored,
                self.label_weight, self.factor, self.losses + begin * self.size, out, self.n_classes, kept)

    cdef void block(self, Py_ssize_t block, char *scratch) noexcept nogil:
        cdef Py_ssize_t n, k, row, a = 0, b = 0, size = self.size
        if self.n_inner == 1:
            a = row = block * ROWS_OF_BLOCK
            n = min(<Py_ssize_t>ROWS_OF_BLOCK, self.n_outer - a)
        else:
            a, b = block // self.blocks_per_outer, block % self.blocks_per_outer * ROWS_OF_BLOCK
            row = a * self.n_inner + b
            n = min(<Py_ssize_t>ROWS_OF_BLOCK, self.n_inner - b)
        cdef const char *x = self.x + a * self.x_strides[0] + b * self.x_strides[2]
        cdef Py_ssize_t across = self.x_strides[0] if self.n_inner == 1 else self.x_strides[2]
        if self.x_strides[1] == size and (<uintptr_t>x | <uintptr_t>across) % size == 0:
            self.kernels.transpose(n, self.n_classes, x, across // size, scratch, ROWS_OF_BLOCK)
        else:
            for k in range(self.n_classes):
                copy_items(scratch + k * ROWS_OF_BLOCK * size, size, x + k * self.x_strides[1], across, n, size, False)
        if self.kernel != NULL:
            self.kernels.softmax_columns(n, self.n_classes, scratch, ROWS_OF_BLOCK,
                                         self.kernel == self.kernels.log_softmax_rows)
        else:
            self.block_losses(row, n, scratch)
        if self.out == NULL:
            return
        cdef char *out = self.out + (a * self.n_classes * self.n_inner + b) * size
        if self.n_inner == 1:
            self.kernels.transpose(self.n_classes, n, scratch, ROWS_OF_BLOCK, out, self.n_classes)
        else:
            for k in range(self.n_classes):
                memcpy(out + k * self.n_inner * size, scratch + k * ROWS_OF_BLOCK * size, n * size)

    cdef void block_losses(self, Py_ssize_t row, Py_ssize_t n, char *scratch) noexcept nogil:
        """Losses of n rows and, in place of their logits, the gradient; both are 0 for an ignored row."""
        cdef char *factors = scratch + ROWS_OF_BLOCK * self.n_classes * self.size
        cdef int64_t *labels = <int64_t *>(factors + ROWS_OF_BLOCK * self.size)
        cdef char *losses = self.losses + row * self.size
        cdef Py_ssize_t i
        cdef bint counts
        for i in range(n):
            counts = self.y[row + i] != self.ignored
            labels[i] = self.y[row + i] if counts else 0
            if self.size == 4:
                (<float *>factors)[i] = <float>self.factor if counts else 0.0
            else:
                (<double *>factors)[i] = self.factor if counts else 0.0
        self.kernels.cross_entropy_columns(n, self.n_classes, scratch, ROWS_OF_BLOCK, labels,
                                           factors if self.out != NULL else NULL, losses, labels + ROWS_OF_BLOCK)
        for i in range(n):
            if self.y[row + i] == self.ignored:
                memset(losses + i * self.size, 0, self.size)

    cdef const char *contiguous_row(self, const char *array, const Py_ssize_t *strides, Py_ssize_t a, Py_ssize_t b,
                                    char *scratch) noexcept nogil:
        array += a * strides[0] + b * strides[2]
        if strides[1] == self.size and <uintptr_t>array % self.size == 0:
            return array
        copy_items(scratch, self.size, array, strides[1], self.n_classes, self.size, False)
        return scratch

    cdef void one_row(self, Py_ssize_t a, Py_ssize_t b, Py_ssize_t r, char *scratch) noexcept nogil:
        cdef const char *x = self.contiguous_row(self.x, self.x_strides, a, b, scratch)
        cdef const char *dense
        cdef const int64_t *y
        cdef char *target = NULL
        cdef char *out = NULL
        if self.out != NULL:
            target = self.out + (a * self.n_classes * self.n_inner + b) * self.size
            out = target if self.n_inner == 1 else scratch + self.row_bytes
        if self.kernel != NULL:
            self.kernel(1, self.n_classes, x, 0, out, 0, NULL)
        else:
            dense = self.dense
            if dense != NULL:
                dense = self.contiguous_row(dense, self.dense_strides, a, b, scratch + 2 * self.row_bytes)
            y = self.y
            if y != NULL:
                y += r
            self.kernels.cross_entropy_rows(1, self.n_classes, x, 0, dense, 0, y, self.ignored, self.label_weight,
                                            self.factor, self.losses + r * self.size, out, 0, NULL)
        if out != target:
            copy_items(target, self.n_inner * self.size, out, self.size, self.n_classes, self.size, False)


def softmax_pass(str kind, logits, out, *, dense=None, y=None, ignored=None, label_weight=None, losses=None,
                 double factor=1.0, int n_threads=1):
    """kind "softmax" or "log_softmax": logits (n_outer, n_classes, n_inner) -> out, C-contiguous.

    kind "cross_entropy": losses (n_outer * n_inner,) and, unless out is None, factor * their gradient
    into out. Target: `dense`, of the logits' shape (any strides, 0 too), plus label_weight[y] at y.
    """
    cdef SoftmaxPass p = SoftmaxPass()
    cdef View view = View(logits, PyBUF_STRIDES)
    cdef char type_kind = view.kind()
    if type_kind != c"f" and type_kind != c"d" or view.buffer.ndim != 3 or view.buffer.shape[1] == 0:
        raise TypeError("logits: expected three dimensions of float32 or float64")
    p.size = view.buffer.itemsize
    p.kernels = &isa.f64 if type_kind == c"d" else &isa.f32
    p.n_outer, p.n_classes, p.n_inner = (<object>view.buffer.shape[0], view.buffer.shape[1], view.buffer.shape[2])
    cdef Py_ssize_t n_rows = p.n_outer * p.n_inner
    p.views = []
    p.x = p.strided(logits, p.x_strides)
    if out is not None:
        view = contiguous(out, n_rows * p.n_classes, type_kind, True, "out")
        p.views.append(view)
        p.out = <char *>view.buffer.buf
    if kind == "softmax":
        p.kernel = p.kernels.softmax_rows
    elif kind == "log_softmax":
        p.kernel = p.kernels.log_softmax_rows
    else:
        if dense is not None:
            p.dense = p.strided(dense, p.dense_strides)
        if y is not None:
            view = contiguous(y, n_rows, INT64, False, "y")
            p.views.append(view)
            p.y = <const int64_t *>view.buffer.buf
        if label_weight is not None:
            view = contiguous(label_weight, p.n_classes, type_kind, False, "label_weight")
            p.views.append(view)
            p.label_weight = <const char *>view.buffer.buf
        view = contiguous(losses, n_rows, type_kind, True, "losses")
        p.views.append(view)
        p.losses = <char *>view.buffer.buf
        p.ignored = -1 if ignored is None else ignored   # -1 is no label: nothing is ignored
        p.factor = factor
    if kind != "cross_entropy" and out is None or kind not in ("softmax", "log_softmax", "cross_entropy"):
        raise ValueError("expected a known kind of pass and somewhere to put its result")
    if kind == "cross_entropy" and y is None and dense is None:
        raise ValueError("expected labels or a dense target")
    p.plan(n_threads)
    p.run()
