# A pass over sparse rows, and what Python calls. Included by _kernels.pyx.
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


ctypedef struct row_span:          # rows that become dlogits at once
    Py_ssize_t piece
    Py_ssize_t first, n             # of the pass
    Py_ssize_t line                 # which of the lines is the first
    Py_ssize_t at                   # where their dlogits go
    Py_ssize_t sums                 # the number of the first of their sums of LOSS_ROWS losses
    double factor                   # of the gradient


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
    cdef Py_ssize_t scratch_bytes, at_labels, at_entries
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
        cdef Py_ssize_t n = self.rows.n_rows, k = self.n_classes
        cdef double seconds = self.rows.n_entries * (SPARSE_ENTRY + SPARSE_CLASS * k) + LOGIT * n * k
        self.n_row_pieces = ceil_div(n, SPARSE_ROWS)
        self.n_column_pieces = 0
        self.ld = round_up(k, 64 // self.size)     # whole cache lines
        self.copies = self.rows.index_size != 4 or self.rows.kind != (c"f" if self.size == 4 else c"d")
        self.most_entries = self.most_entries_of_piece() if self.copies else 0
        if self.columns is not None:
            self.cut_columns()
        self.n_tickets = self.n_row_pieces + self.n_column_pieces
        self.n_threads = threads_that_pay(
            n_threads, self.n_row_pieces, max(self.n_column_pieces, self.n_row_pieces), seconds, 2)

    cdef Py_ssize_t most_entries_of_piece(self) noexcept:
        cdef Py_ssize_t i, most = 0, n = self.rows.n_rows
        for i in range(self.n_row_pieces):
            most = max(most, self.rows.start(min((i + 1) * SPARSE_ROWS, n)) - self.rows.start(i * SPARSE_ROWS))
        return most

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
        self.allocate_scratches(self.most_entries)
        self.allocate_sums(ceil_div(self.rows.n_rows, LOSS_ROWS) * self.n_heads)
        if self.columns is not None:
            self.dlogits = self.take(max(self.rows.n_rows, 1) * self.ld * self.size, zeroed=False)
            self.bias_of = self.take(max(self.n_row_pieces, 1) * self.n_classes * self.size)

    cdef void allocate_scratches(self, Py_ssize_t most_entries) except *:
        """Of each thread: logits, both ways; labels, predictions, factors, losses; where rows begin, their entries."""
        cdef Py_ssize_t block = round_up(SPARSE_ROWS, 32) + 32
        self.at_labels = round_up(SPARSE_ROWS * self.ld * self.size + self.n_classes * block * self.size, 64)
        self.at_entries = self.at_labels + SPARSE_ROWS * (2 * sizeof(int64_t) + 2 * self.size)
        self.scratch_bytes = round_up(
            self.at_entries + (SPARSE_ROWS + 1) * sizeof(int64_t) + most_entries * (4 + self.size), 64)
        self.scratches = self.take(self.scratch_bytes * self.n_threads, zeroed=False)

    cdef void allocate_sums(self, Py_ssize_t n_sums) except *:
        self.loss_of = <double *>self.take(max(n_sums, 1) * 16)
        self.correct_of = <int64_t *>(self.loss_of + n_sums)

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
        cdef row_span span
        cdef sparse_lines lines
        self.lines_of(piece, scratch, &lines)
        span.piece, span.first, span.n = piece, piece * SPARSE_ROWS, lines.n_lines
        span.line, span.at, span.sums, span.factor = 0, span.first, span.first // LOSS_ROWS, self.factor
        self.from_lines(&span, &lines, scratch)

    cdef void lines_of(self, Py_ssize_t piece, char *scratch, sparse_lines *lines) noexcept nogil:
        """The rows of a piece as kernels read them: where they are, or copied into the scratch."""
        cdef int64_t *starts = <int64_t *>(scratch + self.at_entries)
        cdef char *values = <char *>(starts + SPARSE_ROWS + 1)
        cdef Py_ssize_t i, first = piece * SPARSE_ROWS
        cdef int64_t begin = self.rows.start(first)
        lines.starts, lines.n_lines = starts, min(SPARSE_ROWS, self.rows.n_rows - first)
        for i in range(lines.n_lines + 1):
            starts[i] = self.rows.start(first + i) - begin
        if self.copies:
            lines.values, lines.at = values, <int32_t *>(values + self.most_entries * self.size)
            self.rows.copy_entries(begin, begin + starts[lines.n_lines], <int32_t *>lines.at, values, self.size)
        else:
            lines.values = self.rows.values + begin * self.size
            lines.at = <const int32_t *>self.rows.indices + begin

    cdef void from_lines(self, const row_span *span, const sparse_lines *lines, char *scratch) noexcept nogil:
        """Logits of some rows, then losses and dlogits, or predictions."""
        cdef Py_ssize_t i, h, block = round_up(SPARSE_ROWS, 32) + 32, first = span.first, n = span.n
        cdef char *by_class = scratch + SPARSE_ROWS * self.ld * self.size
        cdef int64_t *labels = <int64_t *>(scratch + self.at_labels)
        cdef int64_t *predictions = labels + SPARSE_ROWS
        cdef char *factors = <char *>(predictions + SPARSE_ROWS)
        cdef char *losses = factors + SPARSE_ROWS * self.size
        cdef sparse_sink sink
        sink.out, sink.ld, sink.first_line, sink.bias, sink.scale = scratch, self.ld, span.line, self.b, self.scale
        sink.adds = 0
        if self.logits != NULL and self.y == NULL and self.predictions == NULL:
            sink.out = self.logits + first * self.logits_stride * self.size
            sink.ld = self.logits_stride
        self.kernels.sparse_product(lines, span.line, span.line + n, self.n_classes, self.W, self.W_ld, False, &sink)
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
            self.losses_of(h, span, by_class, block, labels, predictions, factors, losses)
        if self.predictions != NULL:
            memcpy(self.predictions + first, predictions, n * sizeof(int64_t))
        if self.dlogits != NULL:
            self.kernels.transpose(self.n_classes, n, by_class, block, self.dlogits + span.at * self.ld * self.size,
                                   self.ld)
            self.sum_bias(span.piece, n, by_class, block)

    cdef void sum_bias(self, Py_ssize_t piece, Py_ssize_t n, const char *by_class, Py_ssize_t block) noexcept nogil:
        cdef gradient_sink sink
        memset(&sink, 0, sizeof(gradient_sink))
        sink.first = sink.last = True
        sink.scale = 1.0
        sink.gradient = self.bias_of + piece * self.n_classes * self.size
        self.kernels.bias_gradient(n, by_class, block, self.n_classes, &sink)

    cdef void losses_of(self, Py_ssize_t head, const row_span *span, char *by_class, Py_ssize_t block,
                        int64_t *labels, int64_t *predictions, char *factors, char *losses) noexcept nogil:
        """Losses and dlogits of a head, LOSS_ROWS rows at a time."""
        cdef Py_ssize_t i, part, begin, m, k = self.n_classes // self.n_heads, sums
        cdef const double *weight = NULL
        cdef double s, loss, total
        cdef int64_t correct
        if self.weight != NULL:
            weight = self.weight + span.first
            if self.weight_of_head != NULL:
                weight += self.weight_of_head[head] * self.rows.n_rows
        for i in range(span.n):
            s = span.factor * (weight[i] if weight != NULL else 1.0)
            if self.size == 4:
                (<float *>factors)[i] = <float>s
            else:
                (<double *>factors)[i] = s
        for part in range(ceil_div(span.n, LOSS_ROWS)):
            begin = part * LOSS_ROWS
            m = min(LOSS_ROWS, span.n - begin)
            self.kernels.cross_entropy_columns(
                m, k, by_class + (head * k * block + begin) * self.size, block, labels + begin,
                factors + begin * self.size if self.dlogits != NULL else NULL, losses + begin * self.size,
                predictions + begin)
            total, correct = 0.0, 0
            for i in range(begin, begin + m):
                s = weight[i] if weight != NULL else 1.0
                loss = (<float *>losses)[i] if self.size == 4 else (<double *>losses)[i]
                loss = s * loss if s != 0.0 else 0.0   # 0 even if the loss is NaN
                total += loss
                correct += predictions[i] == labels[i]
                if self.losses != NULL and self.size == 4:
                    (<float *>self.losses)[span.first + i] = <float>loss
                elif self.losses != NULL:
                    (<double *>self.losses)[span.first + i] = loss
            sums = (span.sums + part) * self.n_heads + head
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
                SparseColumns columns=None, sums=None, logits=None, losses=None, predictions=None, heads=None,
                weight_of_head=None, int n_threads=1):
    """Pass over sparse rows once; return (sum of losses, number predicted right), as `row_pass`.

    W (n_features, n_classes or more) and b (n_classes,) contiguous, float32 or float64; gradient = (dW, db) like them,
which needs `columns`; logits (n_rows, n_classes or more). The rest is as for `row_pass`.
    """
    cdef SparsePass p = SparsePass() if sums is None else SparseSums()
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
    if y is None and (gradient is not None or sums is not None or losses is not None or p.n_heads > 1):
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
    if sums is not None:
        (<SparseSums>p).into(sums)
    p.plan(n_threads)
    p.allocate()
    p.run()
    cdef list losses_of_heads = [0.0] * p.n_heads, correct_of_heads = [0] * p.n_heads
    if y is not None:
        for i in range(ceil_div(n, LOSS_ROWS) * p.n_heads):
            losses_of_heads[i % p.n_heads] += p.loss_of[i]
            correct_of_heads[i % p.n_heads] += p.correct_of[i]
    if sums is not None:
        (<SparseSums>p).finish()
    elif gradient is not None:
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
