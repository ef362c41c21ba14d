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


cdef class Models:
    """The models of all classes: arrays that the caller has given, checked, and scratch."""
    cdef LogitRows of
    cdef const kernel_table *kernels
    cdef list views, memory
    cdef sparse_lines dense
    cdef class_model *of_class                # n_classes
    cdef double entries                       # that a visit of all coordinates reads

    def __init__(self, LogitRows of, columns, starts, line_of):
        cdef Py_ssize_t K = of.rows.n_classes, ld = of.rows.ld, n = of.rows.n_rows, i, k, n_lines, n_all = len(line_of)
        cdef const sparse_lines *lines = &self.dense
        cdef const int64_t *at
        cdef const int32_t *number
        self.of, self.views, self.memory = of, [columns], []
        self.kernels = &isa.f64 if of.kind == c"d" else &isa.f32
        memset(&self.dense, 0, sizeof(sparse_lines))
        if isinstance(columns, SparseColumns):
            if (<SparseColumns>columns).n_rows != n or (<SparseColumns>columns).size != of.size:
                raise ValueError("columns: expected those of the rows, of their float type")
            lines, n_lines = &(<SparseColumns>columns).lines, (<SparseColumns>columns).n_features
        else:
            n_lines = len(columns)
            self.dense.values = pointer(self.views, columns, n_lines * ld, of.kind, False, "columns")
            self.dense.n_lines = n_lines
        at = <const int64_t *>pointer(self.views, starts, K + 1, INT64, False, "starts")
        number = <const int32_t *>pointer(self.views, line_of, n_all, c"i", False, "line_of")
        for k in range(K):
            if not 0 <= at[k] <= at[k + 1] <= n_all:
                raise ValueError(f"starts[{k + 1}] is {at[k + 1]}, expected numbers that rise to {n_all}")
        for i in range(n_all):
            if not 0 <= number[i] < n_lines:
                raise ValueError(f"line_of[{i}] is {number[i]}, expected 0..{n_lines - 1}")
            self.entries += lines.starts[number[i] + 1] - lines.starts[number[i]] if lines.starts != NULL else n / 4
        self.of_class = <class_model *>taken(self.memory, K * sizeof(class_model), True)
        for k in range(K):
            self.of_class[k].lines, self.of_class[k].line_ld, self.of_class[k].n_rows = lines, ld, n
            self.of_class[k].line_of, self.of_class[k].n_coordinates = number + at[k], at[k + 1] - at[k]
            self.of_class[k].p = <const char *>of.rows.P + k * ld * of.size

    cdef char *of_coordinates(self, array, bint writable, str name) except? NULL:
        return <char *>pointer(self.views, array, self.n_all(), self.of.kind, writable, name)

    cdef char *of_rows(self, array, Py_ssize_t n_lines, bint writable, str name) except? NULL:
        return <char *>pointer(self.views, array, n_lines * self.of.rows.ld, self.of.kind, writable, name)

    cdef Py_ssize_t n_all(self) noexcept:
        cdef class_model *last = &self.of_class[self.of.rows.n_classes - 1]
        return last.line_of + last.n_coordinates - self.of_class[0].line_of

    cdef Py_ssize_t place(self, Py_ssize_t k) noexcept:
        """How many bytes before those of class k lie in an array of all coordinates."""
        return (self.of_class[k].line_of - self.of_class[0].line_of) * self.of.size


def sweep(LogitRows of, columns, coordinates, classes, Py_ssize_t wave, mass, share, s, penalty, *, bias=None,
          bint is_far=False, int n_rounds=1, int n_threads=1):
    """Descend the coordinates of each class once; delta and s are where that leads. Return what it gains, about.

    columns: SparseColumns, or dense ones (n_lines, ld), padded with 0. coordinates: (starts, line_of, u, start,
    gradient, room, curvature), those of class k from starts[k] to starts[k + 1]. classes int64: which are descended, in
    this order, `wave` at a time. mass (n_waves, ld): the probability of each wave. share, s (ld,). penalty: (l1, l2).
    bias: None, or (moved, gradient, room), float64 (n_classes,) twice and a number.
    """
    at, number, weights, from_, slopes, rooms, curvatures = coordinates
    cdef Models models = Models(of, columns, at, number)
    cdef Sweep team = Sweep()
    cdef Py_ssize_t K = of.rows.n_classes, ld = of.rows.ld, n = of.rows.n_rows, size = of.size, i, k, w
    cdef char *u = models.of_coordinates(weights, True, "u")
    cdef char *start = models.of_coordinates(from_, False, "start")
    cdef char *gradient = models.of_coordinates(slopes, False, "gradient")
    cdef char *room = models.of_coordinates(rooms, False, "room")
    cdef char *curvature = models.of_coordinates(curvatures, True, "curvature")
    cdef char *before = taken(models.memory, max(models.n_all(), 1) * size, False)
    cdef double *moved_bias = NULL
    cdef const double *bias_gradient = NULL
    cdef double bias_room = 0.0, gain = 0.0
    cdef class_model *m
    team.n_active = len(classes)
    team.classes = <const int64_t *>pointer(models.views, classes, team.n_active, INT64, False, "classes")
    if wave < 1:
        raise ValueError(f"wave is {wave}, expected at least 1")
    if team.n_active == 0:
        return 0.0
    team.wave = wave = min(wave, team.n_active)
    team.n_waves = ceil_div(team.n_active, wave)
    cdef char *mass_of = models.of_rows(mass, team.n_waves, False, "mass")
    cdef char *share_of = models.of_rows(share, 1, False, "share")
    team.s = models.of_rows(s, 1, True, "s")
    if bias is not None:
        moved_bias = <double *>pointer(models.views, bias[0], K, c"d", True, "bias")
        bias_gradient = <const double *>pointer(models.views, bias[1], K, c"d", False, "bias")
        bias_room = bias[2]
    team.of, team.kernels = of, models.kernels
    team.n_row_pieces = ceil_div(n, LOGIT_ROWS * LOGIT_BLOCKS)
    team.n_tickets = team.n_active + team.n_waves * team.n_row_pieces
    team.n_threads = threads_that_pay(
        n_threads, wave, max(wave, team.n_row_pieces),
        models.entries * (1 + n_rounds) / 2 * SWEPT_ENTRY + SWEPT_LOGIT * n * team.n_active, 2 * team.n_waves)
    team.scratch_bytes = round_up(2 * ld * size, 64) + 64
    team.scratches = taken(models.memory, team.scratch_bytes * team.n_threads, False)
    team.moved = taken(models.memory, wave * ld * size, True)
    team.gain_of = <double *>taken(models.memory, team.n_active * sizeof(double), True)
    team.models = <class_model *>taken(models.memory, team.n_active * sizeof(class_model), True)
    for i in range(team.n_active):
        k = team.classes[i]
        if not 0 <= k < K:
            raise ValueError(f"classes[{i}] is {k}, expected 0..{K - 1}")
        m, w = &team.models[i], models.place(k)
        m[0] = models.of_class[k]
        m.u, m.start, m.gradient, m.room = u + w, start + w, gradient + w, room + w
        m.curvature, m.before = curvature + w, before + w
        m.l1, m.l2 = penalty
        m.delta, m.s = <const char *>of.rows.delta + k * ld * size, team.s
        m.mass, m.share = mass_of + i // wave * ld * size, share_of
        m.is_far, m.n_rounds, m.y, m.number = is_far, n_rounds, of.rows.y, k
        m.bias, m.bias_gradient, m.bias_room = NULL, 0.0, bias_room
        if moved_bias != NULL:
            m.bias, m.bias_gradient = moved_bias + k, bias_gradient[k]
        m.moved = team.moved + i % wave * ld * size
    team.run()
    for i in range(team.n_active):
        gain += team.gain_of[i]
    return gain


cdef class Products(Team):
    """`follow` and `couple`, or `slopes`: a piece for each class, then row pieces."""
    cdef Models models
    cdef Py_ssize_t n_classes
    cdef bint follows
    cdef char *delta
    cdef char *s
    cdef char *scratches                      # one per thread
    cdef Py_ssize_t scratch_bytes

    cdef int64_t awaits(self, int64_t ticket) noexcept nogil:
        return self.n_classes if ticket >= self.n_classes else 0

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        cdef Py_ssize_t begin
        if ticket >= self.n_classes:
            begin = (ticket - self.n_classes) * LOGIT_ROWS * LOGIT_BLOCKS
            self.models.kernels.couple(
                &self.models.of.rows, begin,
                min(<Py_ssize_t>(LOGIT_ROWS * LOGIT_BLOCKS), self.models.of.rows.n_rows - begin), self.delta, self.s)
        elif self.follows:
            self.models.kernels.follow(&self.models.of_class[ticket])
        else:
            self.models.of_class[ticket].scratch = self.scratches + thread * self.scratch_bytes
            self.models.kernels.slopes(&self.models.of_class[ticket])


def model_product(str name, LogitRows of, columns, starts, line_of, u, bias, delta, s, share, *, int n_threads=1):
    """"follow": delta and s become those of a step u of the coordinates and `bias` of the intercepts (None: 0).

    "slopes": u and bias become the slopes that delta and s add to the model. starts, line_of as for `sweep`, u like
    line_of; delta (n_classes, ld).
    """
    cdef Models models = Models(of, columns, starts, line_of)
    cdef Products team = Products()
    cdef Py_ssize_t k, K = of.rows.n_classes, n = of.rows.n_rows, ld = of.rows.ld
    cdef char *weights = models.of_coordinates(u, True, "u")
    cdef char *share_of = models.of_rows(share, 1, False, "share")
    cdef double *moved_bias = NULL
    if name not in ("follow", "slopes"):
        raise ValueError(f'name is {name!r}, expected "follow" or "slopes"')
    team.models, team.n_classes, team.follows = models, K, name == "follow"
    team.delta, team.s = models.of_rows(delta, K, True, "delta"), models.of_rows(s, 1, True, "s")
    if bias is not None:
        moved_bias = <double *>pointer(models.views, bias, K, c"d", True, "bias")
    for k in range(K):
        models.of_class[k].u, models.of_class[k].share = weights + models.place(k), share_of
        models.of_class[k].delta = models.of_class[k].moved = team.delta + k * ld * of.size
        models.of_class[k].s = team.s
        if moved_bias != NULL:
            models.of_class[k].bias = moved_bias + k
    team.n_tickets = K + (ceil_div(n, LOGIT_ROWS * LOGIT_BLOCKS) if team.follows else 0)
    team.n_threads = threads_that_pay(
        n_threads, K, team.n_tickets, models.entries * SWEPT_ENTRY / 2 + LOGIT * n * K, 1)
    team.scratch_bytes = round_up(ld * of.size, 64) + 64
    team.scratches = taken(models.memory, team.scratch_bytes * team.n_threads, False)
    team.run()


cdef class Scan(Team):
    cdef const kernel_table *kernels
    cdef slope_scan scan
    cdef Py_ssize_t n_features, piece_features

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        cdef Py_ssize_t begin = ticket * self.piece_features
        self.kernels.largest_slopes(&self.scan, begin, min(begin + self.piece_features, self.n_features))


def largest_slopes(G, counts, dual, *, int n_threads=1):
    """(most, most_dual), each (n_features,): the largest |G[j, k]| of the classes that count, and that of R.

    dual: None (R is G) or (null, left, c, mix): R = (1 - mix) (G - left[j] c[k]) + mix * null. All of one float type.
    """
    import numpy as np
    cdef Scan team = Scan()
    cdef list views = []
    cdef char kind = kind_of_floats(counts, "counts")
    cdef Py_ssize_t K = len(counts), d = len(G)
    most, most_dual = np.empty(d, counts.dtype), np.empty(d, counts.dtype)
    team.kernels = &isa.f64 if kind == c"d" else &isa.f32
    team.scan.n_classes = K
    team.scan.G = pointer(views, G, d * K, kind, False, "G")
    team.scan.counts = pointer(views, counts, K, kind, False, "counts")
    team.scan.most = <void *>pointer(views, most, d, kind, True, "most")
    team.scan.most_dual = <void *>pointer(views, most_dual, d, kind, True, "most")
    if dual is not None:
        null, left, c, team.scan.mix = dual
        team.scan.null = pointer(views, null, d * K, kind, False, "null")
        team.scan.c = pointer(views, c, K, kind, False, "c")
        if left is not None:
            team.scan.left = pointer(views, left, d, kind, False, "left")
    team.n_features, team.piece_features = d, max(1, 65536 // K)
    team.n_tickets = ceil_div(d, team.piece_features)
    team.n_threads = threads_that_pay(
        n_threads, team.n_tickets, team.n_tickets, 8.0 * of_size(kind) * d * K / BANDWIDTH / 4, 0)
    team.run()
    return most, most_dual


cdef inline Py_ssize_t of_size(char kind) noexcept:
    return 8 if kind == c"d" else 4


cdef char *taken(list memory, Py_ssize_t n_bytes, bint zeroed) except NULL:
    cdef Scratch scratch = Scratch()
    memory.append(scratch)
    return scratch.take(n_bytes, zeroed)
