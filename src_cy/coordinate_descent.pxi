# What the proximal Newton keeps of rows, and its sweeps of coordinate descent. Included by _kernels.pyx.
#
# A sweep goes through the classes in waves. The classes of a wave are descended side by side, a piece each: each sees
# the others where they stood when the wave began. Then row pieces join what the classes have moved, and the next wave
# begins. So no bit depends on the number of threads.

cdef enum:
    LOGIT_BLOCKS = 8          # of LOGIT_ROWS rows, in a row piece

# What a sweep costs a thread, in seconds: for each entry that it visits, and for each row and class.
cdef double SWEPT_ENTRY = 4e-9
cdef double SWEPT_LOGIT = 4e-9


cdef class LogitRows:
    """Rows by their classes: logits Z, delta, probabilities P, dlogits R; the arrays are the caller's, kept alive.

    Z, delta and P are (n_classes, ld), ld a multiple of LOGIT_ROWS and at least n_rows, and 0 beyond n_rows; R is
    (n_rows, n_classes or more); y (n_rows,) are labels, checked; weight (n_rows,) float64 or None. All contiguous.
    """
    cdef logit_rows rows
    cdef list views
    cdef char kind
    cdef Py_ssize_t size
    cdef readonly tuple arrays

    def __init__(self, Z, delta, P, R, y, weight):
        cdef View view = View(Z, PyBUF_C_CONTIGUOUS)
        cdef Py_ssize_t K = view.buffer.shape[0], ld = view.buffer.shape[1], n = len(y)
        self.kind, self.views, self.arrays = view.kind(), [view], (Z, delta, P, R, y, weight)
        if self.kind not in (c"f", c"d") or view.buffer.ndim != 2 or ld % LOGIT_ROWS != 0 or ld < n or K < 1:
            raise ValueError("Z: expected (n_classes, n_rows), rows padded, of float32 or float64")
        self.size = view.buffer.itemsize
        self.rows.n_rows, self.rows.n_classes, self.rows.ld = n, K, ld
        self.rows.Z = pointer(self.views, Z, K * ld, self.kind, False, "Z")
        self.rows.delta = <void *>pointer(self.views, delta, K * ld, self.kind, True, "delta")
        self.rows.P = <void *>pointer(self.views, P, K * ld, self.kind, True, "P")
        view = View(R, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        self.views.append(view)
        self.rows.R_ld, self.rows.R = width_of(view, n, K, self.kind, "R"), view.buffer.buf
        self.rows.y = <const int64_t *>pointer(self.views, y, n, INT64, False, "y")
        self.rows.weight = NULL
        if weight is not None:
            self.rows.weight = <const double *>pointer(self.views, weight, n, c"d", False, "weight")

    def step(self, double step, int n_threads=1):
        """Set P and R to what they are at Z + step * delta; return the weighted sum of the losses."""
        return _over_rows(self, n_threads, step, 0.0, None)

    def entropy(self, double factor, double mix, v, int n_threads=1):
        """The weighted sum of the entropies of factor ((1 - mix) p + mix v) + (1 - factor) e_y; v (n_classes,)."""
        return _over_rows(self, n_threads, factor, mix, v)


cdef class RowSums(Team):
    """A sum over all rows, piece by piece."""
    cdef LogitRows of
    cdef const kernel_table *kernels
    cdef double factor, mix
    cdef const double *v                      # NULL: a step; otherwise entropies
    cdef double *sum_of

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        cdef Py_ssize_t b, begin, n
        for b in range(ticket * LOGIT_BLOCKS, (ticket + 1) * LOGIT_BLOCKS):
            begin = b * LOGIT_ROWS
            n = min(<Py_ssize_t>LOGIT_ROWS, self.of.rows.n_rows - begin)
            if n <= 0:
                return
            if self.v == NULL:
                self.sum_of[b] = self.kernels.logit_step(&self.of.rows, begin, n, self.factor)
            else:
                self.sum_of[b] = self.kernels.logit_entropy(&self.of.rows, begin, n, self.factor, self.mix, self.v)


cdef double _over_rows(LogitRows of, int n_threads, double factor, double mix, v) except? -1:
    cdef RowSums team = RowSums()
    cdef Scratch sums = Scratch()
    cdef list views = []
    cdef Py_ssize_t b, n = of.rows.n_rows, n_blocks = ceil_div(n, LOGIT_ROWS)
    cdef double total = 0.0
    team.of, team.factor, team.mix = of, factor, mix
    team.kernels = &isa.f64 if of.kind == c"d" else &isa.f32
    if v is not None:
        team.v = <const double *>pointer(views, v, of.rows.n_classes, c"d", False, "v")
    team.sum_of = <double *>sums.take(max(n_blocks, 1) * sizeof(double))
    team.n_tickets = ceil_div(n_blocks, LOGIT_BLOCKS)
    team.n_threads = threads_that_pay(
        n_threads, team.n_tickets, team.n_tickets, 2 * LOGIT * n * of.rows.n_classes, 0)
    team.run()
    for b in range(n_blocks):
        total += team.sum_of[b]
    return total


cdef class Sweep(Team):
    """One sweep: for each wave, a piece for each of its classes, then row pieces."""
    cdef LogitRows of
    cdef const kernel_table *kernels
    cdef Py_ssize_t n_active, wave, n_waves, n_row_pieces
    cdef const int64_t *classes               # of the waves, one after the other
    cdef class_model *models                  # one for each class of `classes`
    cdef double *gain_of
    cdef char *scratches                      # one per thread
    cdef Py_ssize_t scratch_bytes
    cdef char *moved                          # (wave, ld)
    cdef char *s

    cdef Py_ssize_t of_wave(self, Py_ssize_t w) noexcept nogil:
        return min(self.wave, self.n_active - w * self.wave)

    cdef int64_t awaits(self, int64_t ticket) noexcept nogil:
        cdef Py_ssize_t per_wave = self.wave + self.n_row_pieces
        cdef Py_ssize_t w = min(ticket // per_wave, self.n_waves - 1), first = w * per_wave
        cdef Py_ssize_t n = self.of_wave(w)
        return first if ticket < first + n else first + n

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        cdef Py_ssize_t per_wave = self.wave + self.n_row_pieces, w = min(ticket // per_wave, self.n_waves - 1)
        cdef Py_ssize_t c = ticket - w * per_wave, n = self.of_wave(w), first = w * self.wave, begin
        if c < n:
            self.models[first + c].scratch = self.scratches + thread * self.scratch_bytes
            self.gain_of[first + c] = self.kernels.descend(&self.models[first + c])
            return
        begin = (c - n) * LOGIT_ROWS * LOGIT_BLOCKS
        self.kernels.join_moves(
            &self.of.rows, begin, min(<Py_ssize_t>(LOGIT_ROWS * LOGIT_BLOCKS), self.of.rows.n_rows - begin),
            self.classes + first, n, self.moved, self.s)


def sweep(LogitRows of, columns, coordinates, classes, Py_ssize_t wave, mass, share, s, penalty, *, bias=None,
          double rise=0.0, int n_rounds=1, int n_threads=1):
    """Descend the coordinates of each class once; delta and s are where that leads. Return what it gains, about.

    columns: SparseColumns, or dense ones (n_lines, ld), padded with 0. coordinates: (starts, line_of, u, start,
    gradient, room, curvature), those of class k from starts[k] to starts[k + 1]. classes int64: which are descended, in
    this order, `wave` at a time. mass (n_waves, ld): the probability of each wave. share, s (ld,). penalty: (l1, l2).
    bias: None, or (moved, gradient, room), float64 (n_classes,) twice and a number.
    """
    cdef Sweep team = Sweep()
    cdef list views = [], memory = []
    cdef Py_ssize_t K = of.rows.n_classes, n = of.rows.n_rows, ld = of.rows.ld, size = of.size, i, k, n_all, n_lines, w
    cdef const int64_t *starts
    cdef const int32_t *line_of
    cdef char *u
    cdef const char *start
    cdef const char *gradient
    cdef const char *room
    cdef char *curvature
    cdef char *before
    cdef double *moved_bias = NULL
    cdef const double *bias_gradient = NULL
    cdef double bias_room = 0.0, entries = 0.0, gain = 0.0
    cdef sparse_lines dense
    cdef const sparse_lines *lines = &dense
    cdef class_model *m
    cdef const char *mass_of
    cdef const char *share_of
    memset(&dense, 0, sizeof(sparse_lines))
    if isinstance(columns, SparseColumns):
        if (<SparseColumns>columns).n_rows != n or (<SparseColumns>columns).size != size:
            raise ValueError("columns: expected those of the rows, of their float type")
        lines, n_lines = &(<SparseColumns>columns).lines, (<SparseColumns>columns).n_features
    else:
        n_lines = len(columns)
        dense.values = pointer(views, columns, n_lines * ld, of.kind, False, "columns")
        dense.n_lines = n_lines
    at, number, weights, from_, slopes, rooms, curvatures = coordinates
    n_all = len(number)
    starts = <const int64_t *>pointer(views, at, K + 1, INT64, False, "starts")
    line_of = <const int32_t *>pointer(views, number, n_all, c"i", False, "line_of")
    u = <char *>pointer(views, weights, n_all, of.kind, True, "u")
    start = <const char *>pointer(views, from_, n_all, of.kind, False, "start")
    gradient = <const char *>pointer(views, slopes, n_all, of.kind, False, "gradient")
    room = <const char *>pointer(views, rooms, n_all, of.kind, False, "room")
    curvature = <char *>pointer(views, curvatures, n_all, of.kind, True, "curvature")
    for k in range(K):
        if not 0 <= starts[k] <= starts[k + 1] <= n_all:
            raise ValueError(f"starts[{k + 1}] is {starts[k + 1]}, expected numbers that rise to {n_all}")
    for i in range(n_all):
        if not 0 <= line_of[i] < n_lines:
            raise ValueError(f"line_of[{i}] is {line_of[i]}, expected 0..{n_lines - 1}")
        entries += lines.starts[line_of[i] + 1] - lines.starts[line_of[i]] if lines.starts != NULL else n / 4
    team.n_active = len(classes)
    team.classes = <const int64_t *>pointer(views, classes, team.n_active, INT64, False, "classes")
    if wave < 1:
        raise ValueError(f"wave is {wave}, expected at least 1")
    if team.n_active == 0:
        return 0.0
    team.wave = wave = min(wave, team.n_active)
    team.n_waves = ceil_div(team.n_active, wave)
    mass_of = <const char *>pointer(views, mass, team.n_waves * ld, of.kind, False, "mass")
    share_of = <const char *>pointer(views, share, ld, of.kind, False, "share")
    team.s = <char *>pointer(views, s, ld, of.kind, True, "s")
    if bias is not None:
        moved_bias = <double *>pointer(views, bias[0], K, c"d", True, "bias")
        bias_gradient = <const double *>pointer(views, bias[1], K, c"d", False, "bias")
        bias_room = bias[2]
    team.of, team.kernels = of, &isa.f64 if of.kind == c"d" else &isa.f32
    team.n_row_pieces = ceil_div(n, LOGIT_ROWS * LOGIT_BLOCKS)
    team.n_tickets = team.n_active + team.n_waves * team.n_row_pieces
    team.n_threads = threads_that_pay(
        n_threads, wave, max(wave, team.n_row_pieces),
        entries * (1 + n_rounds) / 2 * SWEPT_ENTRY + SWEPT_LOGIT * n * team.n_active, 2 * team.n_waves)
    team.scratch_bytes = round_up(2 * ld * size, 64) + 64
    team.scratches = taken(memory, team.scratch_bytes * team.n_threads, False)
    team.moved = taken(memory, wave * ld * size, True)
    team.gain_of = <double *>taken(memory, team.n_active * sizeof(double), True)
    team.models = <class_model *>taken(memory, team.n_active * sizeof(class_model), True)
    before = taken(memory, max(n_all, 1) * size, False)
    for i in range(team.n_active):
        k = team.classes[i]
        if not 0 <= k < K:
            raise ValueError(f"classes[{i}] is {k}, expected 0..{K - 1}")
        m, w = &team.models[i], starts[k] * size
        m.lines, m.line_ld, m.n_rows, m.n_coordinates = lines, ld, n, starts[k + 1] - starts[k]
        m.line_of, m.u, m.start, m.gradient = line_of + starts[k], u + w, start + w, gradient + w
        m.room, m.curvature, m.before = room + w, curvature + w, before + w
        m.l1, m.l2 = penalty
        m.p, m.delta = <const char *>of.rows.P + k * ld * size, <const char *>of.rows.delta + k * ld * size
        m.s, m.mass, m.share = team.s, mass_of + i // wave * ld * size, share_of
        m.rise, m.n_rounds = rise, n_rounds
        m.bias, m.bias_gradient, m.bias_room = NULL, 0.0, bias_room
        if moved_bias != NULL:
            m.bias, m.bias_gradient = moved_bias + k, bias_gradient[k]
        m.moved = team.moved + i % wave * ld * size
    team.run()
    for i in range(team.n_active):
        gain += team.gain_of[i]
    return gain


cdef char *taken(list memory, Py_ssize_t n_bytes, bint zeroed) except NULL:
    cdef Scratch scratch = Scratch()
    memory.append(scratch)
    return scratch.take(n_bytes, zeroed)
