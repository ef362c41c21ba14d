# Sums over sparse rows that are made row after row, in float64: for rows of which there is no copy by columns.
# Included by _kernels.pyx.
#
# An entry adds to the line of its feature. A thread has a range of the features, and goes through all rows for it;
# where the entries of a row are in the order of their features, it finds those of its range at once. So each sum takes
# its terms in the order of the rows, whatever the number of threads; and as it goes on from what is there already, it
# makes no difference into how many calls the rows are cut (of whole row pieces, but for the last).

from libc.stdlib cimport qsort

cdef enum:
    CUT_SAMPLE = 512          # entries that tell where ranges of features begin


cdef int by_feature(const void *a, const void *b) noexcept nogil:
    cdef int32_t left = (<const int32_t *>a)[0], right = (<const int32_t *>b)[0]
    return (left > right) - (left < right)


cdef class SparseSums(SparsePass):
    """A pass that adds to float64 sums: of W (n_features, n_classes) without the scale, of b, and losses of heads."""
    cdef double *sums
    cdef Py_ssize_t n_parts                   # ranges of features: cuts[part] .. cuts[part + 1]
    cdef Py_ssize_t most_copied               # entries of a row piece, where each part copies its own
    cdef char *in_order                       # of each row piece: are its entries?
    cdef bint squares                         # of the values are summed

    cdef void into(self, sums) except *:
        cdef Py_ssize_t n = (self.rows.n_features + 1) * self.n_classes + self.n_heads
        self.sums = <double *>pointer(self.views, sums, n, c"d", True, "sums")

    cdef void plan(self, int n_threads) except *:
        SparsePass.plan(self, n_threads)
        self.n_parts = self.n_threads
        self.n_tickets += self.n_parts
        self.cut_features()
        self.most_copied = self.most_entries_of_piece() if self.n_parts > 1 else 0

    cdef void cut_features(self) except *:
        """Ranges with about equally many entries, one for each thread. No order of a sum depends on them."""
        cdef int32_t seen[CUT_SAMPLE]
        cdef Py_ssize_t i, n = 0, step = max(1, ceil_div(self.rows.n_entries, CUT_SAMPLE))
        self.cuts = <Py_ssize_t *>self.take((self.n_parts + 1) * sizeof(Py_ssize_t))
        self.cuts[self.n_parts] = self.rows.n_features
        if self.n_parts == 1:
            return
        for i in range(0, self.rows.n_entries, step):
            seen[n] = <int32_t>integer_at(self.rows.indices, self.rows.index_size, i)
            n += 1
        qsort(seen, n, sizeof(int32_t), by_feature)
        for i in range(1, self.n_parts):
            self.cuts[i] = seen[i * n // self.n_parts] if n > 0 else 0

    cdef void allocate(self) except *:
        self.allocate_parts()
        self.allocate_sums(ceil_div(self.rows.n_rows, LOSS_ROWS) * self.n_heads)
        self.dlogits = self.take(max(self.rows.n_rows, 1) * self.ld * self.size, zeroed=False)
        self.bias_of = self.take(max(self.n_row_pieces, 1) * self.n_classes * self.size)

    cdef void allocate_parts(self) except *:
        self.in_order = self.take(max(self.n_row_pieces, 1))
        self.allocate_scratches(max(self.most_entries, self.most_copied))

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        cdef char *scratch = self.scratches + thread * self.scratch_bytes
        if ticket >= self.n_row_pieces:
            self.add_part(ticket - self.n_row_pieces, scratch)
            return
        self.row_piece(ticket, scratch)
        if self.n_parts > 1:
            self.see_order(ticket)

    cdef void see_order(self, Py_ssize_t piece) noexcept nogil:
        cdef Py_ssize_t i, e, first = piece * SPARSE_ROWS, size = self.rows.index_size
        cdef const char *at = self.rows.indices
        cdef bint in_order = True
        for i in range(first, min(first + SPARSE_ROWS, self.rows.n_rows)):
            for e in range(self.rows.start(i) + 1, self.rows.start(i + 1)):
                in_order &= integer_at(at, size, e - 1) <= integer_at(at, size, e)
        self.in_order[piece] = in_order

    cdef void add_part(self, Py_ssize_t part, char *scratch) noexcept nogil:
        cdef sparse_lines lines
        cdef Py_ssize_t piece
        for piece in range(self.n_row_pieces):
            if self.n_parts == 1:
                self.lines_of(piece, scratch, &lines)
            else:
                self.lines_of_part(piece, part, scratch, &lines)
            self.kernels.sparse_add(
                &lines, self.n_classes, self.dlogits + piece * SPARSE_ROWS * self.ld * self.size, self.ld,
                self.squares, self.sums)

    cdef void lines_of_part(self, Py_ssize_t piece, Py_ssize_t part, char *scratch, sparse_lines *lines) noexcept nogil:
        """A copy of the rows of a piece with the features of a part alone."""
        cdef int64_t *starts = <int64_t *>(scratch + self.at_entries)
        cdef char *values = <char *>(starts + SPARSE_ROWS + 1)
        cdef int32_t *at = <int32_t *>(values + self.most_copied * self.size)
        cdef Py_ssize_t i, e, begin, end, low = self.cuts[part], high = self.cuts[part + 1], n = 0
        cdef Py_ssize_t row = piece * SPARSE_ROWS, size = self.rows.index_size
        lines.starts, lines.at, lines.values = starts, at, values
        lines.n_lines = min(SPARSE_ROWS, self.rows.n_rows - row)
        starts[0] = 0
        for i in range(lines.n_lines):
            begin, end = self.rows.start(row + i), self.rows.start(row + i + 1)
            if self.in_order[piece]:
                begin = self.entry_from(begin, end, low)
                end = self.entry_from(begin, end, high)
                self.rows.copy_entries(begin, end, at + n, values + n * self.size, self.size)
                n += end - begin
            else:
                for e in range(begin, end):
                    if low <= integer_at(self.rows.indices, size, e) < high:
                        self.rows.copy_entries(e, e + 1, at + n, values + n * self.size, self.size)
                        n += 1
            starts[i + 1] = n

    cdef Py_ssize_t entry_from(self, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t feature) noexcept nogil:
        """The first of some entries, in order of their features, that has this feature or a later one."""
        cdef Py_ssize_t half, n = end - begin, size = self.rows.index_size
        if feature >= self.rows.n_features:
            return end
        while n > 0:
            half = (n + 1) // 2
            if integer_at(self.rows.indices, size, begin + half - 1) < feature:
                begin += half
                n -= half
            else:
                n = half - 1
        return begin

    cdef void finish(self) noexcept:
        """Add what the row pieces have summed, in order."""
        cdef Py_ssize_t i, k, h
        cdef double *of_b = self.sums + self.rows.n_features * self.n_classes
        cdef double *losses = of_b + self.n_classes
        for i in range(self.n_row_pieces):
            for k in range(self.n_classes):
                if self.size == 4:
                    of_b[k] += (<float *>self.bias_of)[i * self.n_classes + k]
                else:
                    of_b[k] += (<double *>self.bias_of)[i * self.n_classes + k]
        for i in range(ceil_div(self.rows.n_rows, LOSS_ROWS)):
            for h in range(self.n_heads):
                losses[h] += self.loss_of[i * self.n_heads + h]


cdef class SparseProductSums(SparseSums):
    """The sums of W alone, of factors that somebody else has made."""

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        if ticket < self.n_row_pieces and self.n_parts > 1:
            self.see_order(ticket)
        elif ticket >= self.n_row_pieces:
            self.add_part(ticket - self.n_row_pieces, self.scratches + thread * self.scratch_bytes)


def sparse_add(SparseRows rows, factors, sums, *, bint squares=False, int n_threads=1):
    """sums[j, k] += sum_i X[i, j] factors[i, k], or of the squares of X, in float64 and in the order of the rows.

    factors (n_rows, n) contiguous, float32 or float64; sums (n_features, n) contiguous.
    """
    cdef SparseProductSums p = SparseProductSums()
    cdef View view = View(factors, PyBUF_C_CONTIGUOUS)
    p.views, p.memory, p.rows, p.squares = [view], [], rows, squares
    p.size = 8 if kind_of_floats(factors, "factors") == c"d" else 4
    p.kernels = &isa.f64 if p.size == 8 else &isa.f32
    p.n_classes = p.n_heads = 1
    if view.buffer.ndim == 2 and 1 <= view.buffer.shape[1] <= PY_SSIZE_T_MAX // 64 // max(rows.n_features, 1):
        p.n_classes = view.buffer.shape[1]
    width_of(view, rows.n_rows, p.n_classes, view.kind(), "factors")
    p.sums = <double *>pointer(p.views, sums, rows.n_features * p.n_classes, c"d", True, "sums")
    p.plan(n_threads)
    p.allocate_parts()
    p.ld, p.dlogits = view.buffer.shape[1], <char *>view.buffer.buf
    p.run()
