# Arithmetic of long vectors of parameters, for solvers over sparse rows. Included by _kernels.pyx.
#
# A vector has n_lines * n numbers, a line of n for each feature; numbers that follow are the caller's. One operation
# does all that may be done while a piece of its vectors lies in the caches. Sums are those of the pieces, added up in
# order; the pieces depend on n and the float type alone. So the bits are the same for any number of threads.

cdef enum:
    PIECE_BYTES = 1 << 15     # of a vector, at least LEAST_LINES lines
    LEAST_LINES = 16
    PRODUCTS, STEP, SHIFT, FINISH, LARGEST, DIRECTION, MEET, GRAM  # operations

ctypedef const char *address


cdef class Lines(Team):
    """One operation on vectors of lines."""
    cdef const kernel_table *kernels
    cdef list views, memory
    cdef Py_ssize_t n_lines, n, size, at_once, n_sums, scratch_bytes, n_vectors, n_pairs, stride, slot
    cdef int operation
    cdef double *sums
    cdef char *scratches
    cdef address vectors[8]
    cdef char *out
    cdef const char *mean
    cdef const char *bias
    cdef double factor, l2
    cdef int64_t *pairs                       # of vectors whose products are summed; or slots of S and Y
    cdef char *S                              # (any number, stride): a pair's step and change of the gradient by slot
    cdef char *Y
    cdef const double *of_Y
    cdef const double *of_S

    def __init__(self, int operation, Py_ssize_t n_lines, Py_ssize_t n, vector, int n_threads):
        cdef View view = View(vector, PyBUF_C_CONTIGUOUS)
        cdef char kind = view.kind()
        if kind not in (c"f", c"d") or view.reversed() or n < 1 or n_lines < 0:
            raise ValueError("expected float32 or float64, and lines of at least one number")
        self.kernels = &isa.f64 if kind == c"d" else &isa.f32
        self.size = 8 if kind == c"d" else 4
        self.operation, self.n_lines, self.n, self.n_threads = operation, n_lines, n, n_threads
        self.views, self.memory = [], []
        self.at_once = max(LEAST_LINES, PIECE_BYTES // (n * self.size))
        self.n_tickets = ceil_div(n_lines, self.at_once)

    cdef char *take(self, Py_ssize_t n_bytes) except NULL:
        cdef Scratch scratch = Scratch()
        self.memory.append(scratch)
        return scratch.take(max(n_bytes, 64))

    cdef char *vector(self, array, bint writable) except NULL:
        """The first of n_lines * n numbers, or more; of NULL where there are none."""
        cdef View view = View(array, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
        self.views.append(view)
        if view.kind() != (c"d" if self.size == 8 else c"f") or view.reversed() or (
                view.buffer.len < self.n_lines * self.n * self.size or <uintptr_t>view.buffer.buf % self.size != 0):
            raise ValueError(f"expected a vector of {self.n_lines} x {self.n} numbers of {8 * self.size} bits")
        return <char *>view.buffer.buf if view.buffer.len else <char *>&self.size

    cdef int read_pairs(self, S, Y, slots) except -1:
        cdef View view
        cdef Py_ssize_t i, n_slots
        for array in (S, Y):
            view = View(array, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            self.views.append(view)
            if view.buffer.ndim != 2 or view.kind() != (c"d" if self.size == 8 else c"f") or (
                    view.buffer.shape[1] < self.n_lines * self.n):
                raise ValueError("S and Y: expected vectors of the parameters")
            self.stride, n_slots = view.buffer.shape[1] * self.size, view.buffer.shape[0]
            if array is S:
                self.S = <char *>view.buffer.buf
            else:
                self.Y = <char *>view.buffer.buf
        if S.shape[0] != Y.shape[0] or S.shape[1] != Y.shape[1]:
            raise ValueError("S and Y: expected as many of each")
        self.n_pairs = len(slots)
        self.pairs = <int64_t *>self.take(self.n_pairs * sizeof(int64_t))
        for i in range(self.n_pairs):
            self.pairs[i] = slots[i]
            if not 0 <= self.pairs[i] < n_slots:
                raise ValueError(f"slots[{i}] is {slots[i]}, expected 0..{n_slots - 1}")
        return 0

    cdef list finish(self, Py_ssize_t n_sums, Py_ssize_t n_scratches, double n_read):
        """Run; return the sums."""
        cdef Py_ssize_t i, piece
        cdef double total
        cdef list totals = []
        self.n_sums = n_sums
        self.sums = <double *>self.take(self.n_tickets * n_sums * sizeof(double))
        self.scratch_bytes = round_up(self.at_once * self.n * self.size, 64) * n_scratches
        if self.n_tickets:
            self.n_threads = threads_that_pay(
                self.n_threads, self.n_tickets, self.n_tickets,
                n_read * self.n_lines * self.n * self.size / BANDWIDTH, 0)
            self.scratches = self.take(self.n_threads * self.scratch_bytes)
            self.run()
        for i in range(n_sums):
            total = 0.0
            for piece in range(self.n_tickets):
                if self.operation == LARGEST:
                    total = max(total, self.sums[piece])
                else:
                    total += self.sums[piece * n_sums + i]
            totals.append(total)
        self.memory = None
        return totals

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        cdef Py_ssize_t first = ticket * self.at_once, lines = min(self.at_once, self.n_lines - first)
        cdef Py_ssize_t at = first * self.n * self.size, m = lines * self.n, i
        cdef double *sums = self.sums + ticket * self.n_sums
        cdef char *scratch = self.scratches + thread * self.scratch_bytes
        cdef const char *mean = self.mean
        if mean != NULL:
            mean += first * self.size
        if self.operation == PRODUCTS:
            for i in range(self.n_sums):
                sums[i] = self.kernels.product(
                    m, self.vectors[self.pairs[2 * i]] + at, self.vectors[self.pairs[2 * i + 1]] + at)
        elif self.operation == STEP:
            if self.out != self.vectors[0]:
                memcpy(self.out + at, self.vectors[0] + at, m * self.size)
            self.kernels.add_multiple(m, self.factor, self.vectors[1] + at, self.out + at)
        elif self.operation == SHIFT:
            memset(scratch, 0, self.n * self.size)
            self.kernels.sum_lines(lines, self.n, mean, self.vectors[0] + at, scratch)
            for i in range(self.n):
                sums[i] = (<float *>scratch)[i] if self.size == 4 else (<double *>scratch)[i]
        elif self.operation == FINISH:
            self.kernels.finish_lines(
                lines, self.n, self.factor, mean, self.bias, self.l2, self.vectors[0] + at, self.out + at)
            sums[0] = self.kernels.product(m, self.vectors[0] + at, self.vectors[0] + at)
        elif self.operation == LARGEST:
            sums[0] = self.kernels.largest_of_lines(lines, self.n, mean, self.bias, self.vectors[0] + at)
        elif self.operation == DIRECTION:
            self.direction(lines, at, sums, scratch)
        elif self.operation == MEET:
            self.meet(lines, at, sums, scratch)
        else:
            self.gram(lines, at, sums, scratch)

    cdef void direction(self, Py_ssize_t lines, Py_ssize_t at, double *sums, char *scratch) noexcept nogil:
        """out = P (sum of_Y Y - factor g) + sum of_S S, and its product with g; vectors: g, the diagonal."""
        cdef Py_ssize_t m = lines * self.n, i
        memset(scratch, 0, m * self.size)
        self.kernels.add_multiple(m, -self.factor, self.vectors[0] + at, scratch)
        for i in range(self.n_pairs):
            self.kernels.add_multiple(m, self.of_Y[i], self.Y + self.pairs[i] * self.stride + at, scratch)
        self.kernels.solve_lines(lines, self.n, self.vectors[1] + at, self.l2, scratch, self.out + at)
        for i in range(self.n_pairs):
            self.kernels.add_multiple(m, self.of_S[i], self.S + self.pairs[i] * self.stride + at, self.out + at)
        sums[0] = self.kernels.product(m, self.out + at, self.vectors[0] + at)

    cdef void meet(self, Py_ssize_t lines, Py_ssize_t at, double *sums, char *scratch) noexcept nogil:
        """Products with g and P g; vectors: g, the diagonal and, for a new pair, the old g and the step.

        g P g, S g, Y P g, and of the new pair s y, y P y, s s, s g, y P g.
        """
        cdef Py_ssize_t m = lines * self.n, i, k = self.n_pairs
        cdef char *s
        cdef char *y
        cdef const char *g = self.vectors[0] + at
        self.kernels.solve_lines(lines, self.n, self.vectors[1] + at, self.l2, g, scratch)
        sums[0] = self.kernels.product(m, g, scratch)
        for i in range(k):
            sums[1 + i] = self.kernels.product(m, self.S + self.pairs[i] * self.stride + at, g)
            sums[1 + k + i] = self.kernels.product(m, self.Y + self.pairs[i] * self.stride + at, scratch)
        if self.slot < 0:
            return
        sums += 1 + 2 * k
        s, y = self.S + self.slot * self.stride + at, self.Y + self.slot * self.stride + at
        memcpy(y, g, m * self.size)
        self.kernels.add_multiple(m, -1.0, self.vectors[2] + at, y)
        memset(s, 0, m * self.size)
        self.kernels.add_multiple(m, self.factor, self.vectors[3] + at, s)
        sums[0] = self.kernels.product(m, s, y)
        sums[2] = self.kernels.product(m, s, s)
        sums[3] = self.kernels.product(m, s, g)
        sums[4] = self.kernels.product(m, y, scratch)
        self.kernels.solve_lines(lines, self.n, self.vectors[1] + at, self.l2, y, scratch)
        sums[1] = self.kernels.product(m, y, scratch)

    cdef void gram(self, Py_ssize_t lines, Py_ssize_t at, double *sums, char *scratch) noexcept nogil:
        """Y_i P Y_j for j <= i; vectors: the diagonal."""
        cdef Py_ssize_t m = lines * self.n, i, j, place = 0
        for i in range(self.n_pairs):
            self.kernels.solve_lines(
                lines, self.n, self.vectors[0] + at, self.l2, self.Y + self.pairs[i] * self.stride + at, scratch)
            for j in range(i + 1):
                sums[place] = self.kernels.product(m, self.Y + self.pairs[j] * self.stride + at, scratch)
                place += 1


def line_products(Py_ssize_t n_lines, Py_ssize_t n, vectors, pairs, int n_threads):
    """The products of pairs of the vectors, (i, j) by their numbers: of up to 8 vectors."""
    cdef Lines lines = Lines(PRODUCTS, n_lines, n, vectors[0], n_threads)
    if len(vectors) > 8:
        raise ValueError("expected at most 8 vectors")
    for i, vector in enumerate(vectors):
        lines.vectors[i] = lines.vector(vector, False)
    lines.pairs = <int64_t *>lines.take(2 * len(pairs) * sizeof(int64_t))
    for i, (first, second) in enumerate(pairs):
        if not (0 <= first < len(vectors) and 0 <= second < len(vectors)):
            raise ValueError(f"pairs[{i}] is {(first, second)}, expected numbers of vectors")
        lines.pairs[2 * i], lines.pairs[2 * i + 1] = first, second
    return lines.finish(len(pairs), 0, len(vectors))


def line_step(Py_ssize_t n_lines, Py_ssize_t n, start, direction, double step, out, int n_threads):
    """out = start + step * direction; out may be start."""
    cdef Lines lines = Lines(STEP, n_lines, n, start, n_threads)
    lines.vectors[0], lines.vectors[1] = lines.vector(start, False), lines.vector(direction, False)
    lines.out, lines.factor = lines.vector(out, True), step
    lines.finish(0, 0, 3)


def line_shift(Py_ssize_t n_lines, Py_ssize_t n, W, mean, int n_threads):
    """sum_j mean[j] W[j], n numbers."""
    cdef Lines lines = Lines(SHIFT, n_lines, n, W, n_threads)
    lines.vectors[0] = lines.vector(W, False)
    lines.mean = <const char *>pointer(lines.views, mean, n_lines, c"d" if lines.size == 8 else c"f", False, "mean")
    return lines.finish(n, 1, 1)


def line_finish(Py_ssize_t n_lines, Py_ssize_t n, dW, W, double factor, mean, bias, double l2, int n_threads):
    """dW = factor * (dW - mean bias^T) + l2 W; return ||W||^2. mean may be None."""
    cdef Lines lines = Lines(FINISH, n_lines, n, dW, n_threads)
    cdef char kind = c"d" if lines.size == 8 else c"f"
    lines.vectors[0], lines.out = lines.vector(W, False), lines.vector(dW, True)
    lines.factor, lines.l2 = factor, l2
    lines.bias = <const char *>pointer(lines.views, bias, n, kind, False, "bias")
    if mean is not None:
        lines.mean = <const char *>pointer(lines.views, mean, n_lines, kind, False, "mean")
    return lines.finish(1, 0, 3)[0]


def line_largest(Py_ssize_t n_lines, Py_ssize_t n, g, mean, bias, int n_threads):
    """The largest |g + mean bias^T|. mean may be None."""
    cdef Lines lines = Lines(LARGEST, n_lines, n, g, n_threads)
    cdef char kind = c"d" if lines.size == 8 else c"f"
    lines.vectors[0] = lines.vector(g, False)
    lines.bias = <const char *>pointer(lines.views, bias, n, kind, False, "bias")
    if mean is not None:
        lines.mean = <const char *>pointer(lines.views, mean, n_lines, kind, False, "mean")
    return lines.finish(1, 0, 1)[0]


def line_direction(Py_ssize_t n_lines, Py_ssize_t n, S, Y, slots, of_S, of_Y, double gamma, g, diagonal,
                   double l2, out, int n_threads):
    """out = P (sum of_Y Y - gamma g) + sum of_S S over the slots; return its product with g."""
    cdef Lines lines = Lines(DIRECTION, n_lines, n, g, n_threads)
    lines.read_pairs(S, Y, slots)
    lines.of_S = <const double *>pointer(lines.views, of_S, lines.n_pairs, c"d", False, "of_S")
    lines.of_Y = <const double *>pointer(lines.views, of_Y, lines.n_pairs, c"d", False, "of_Y")
    lines.vectors[0], lines.vectors[1] = lines.vector(g, False), lines.vector(diagonal, False)
    lines.out, lines.factor, lines.l2 = lines.vector(out, True), gamma, l2
    return lines.finish(1, 1, 3 + 2 * lines.n_pairs)[0]


def line_meet(Py_ssize_t n_lines, Py_ssize_t n, S, Y, slots, g, diagonal, double l2, int n_threads, *,
              Py_ssize_t slot=-1, old=None, direction=None, double step=0.0):
    """g P g, S g and Y P g over the slots; with `slot`, a new pair goes there, and its products follow.

    They are s y, y P y, s s, s g, y P g, of s = step * direction and y = g - old.
    """
    cdef Lines lines = Lines(MEET, n_lines, n, g, n_threads)
    lines.read_pairs(S, Y, slots)
    lines.vectors[0], lines.vectors[1] = lines.vector(g, False), lines.vector(diagonal, False)
    lines.slot, lines.factor, lines.l2 = slot, step, l2
    if slot >= 0:
        if slot >= len(S):
            raise ValueError(f"slot is {slot}, expected 0..{len(S) - 1}")
        lines.vectors[2], lines.vectors[3] = lines.vector(old, False), lines.vector(direction, False)
    cdef Py_ssize_t k = lines.n_pairs
    return lines.finish(1 + 2 * k + (5 if slot >= 0 else 0), 1, 2 + 2 * k + (4 if slot >= 0 else 0))


def line_gram(Py_ssize_t n_lines, Py_ssize_t n, S, Y, slots, diagonal, double l2, int n_threads):
    """Y P Y^T over the slots: its lower triangle, line by line."""
    cdef Lines lines = Lines(GRAM, n_lines, n, diagonal, n_threads)
    lines.read_pairs(S, Y, slots)
    lines.vectors[0], lines.l2 = lines.vector(diagonal, False), l2
    return lines.finish(lines.n_pairs * (lines.n_pairs + 1) // 2, 1, 1 + lines.n_pairs)
