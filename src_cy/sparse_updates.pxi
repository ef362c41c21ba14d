# Minibatches of sparse rows: SGD that touches only the features of a batch. Included by _kernels.pyx.
#
# A pass works on feature-major lines of W (and of its velocity), which it makes from W and writes back at the end. Each
# batch is copied first: its entries row by row, and the same entries by feature. The features of a batch are numbered
# as they come: that number is their slot. Weight decay, momentum and the L1 penalty move also the features that a batch
# does not have: such a feature rests. How many batches it has rested says what it has missed (sparse_rests), and it
# catches up when a batch has it again, and at the end.
#
# The tickets: lines of W are made, and the first batch. Then for each batch
#   1. its features catch up, if there is anything to catch up on;
#   2. the next batch is copied, and the rows of this one become dlogits;
#   3. its features take their step: each is summed over the batch's rows in order, by one thread.
# Last, all features catch up and W is written. Each of these stages waits for the one before.

cdef enum:
    TURNED_FEATURES = 256     # of a piece that turns W
    STEP_ENTRIES = 2048       # of a piece that takes steps, on average
    STEP_PIECES = 64          # at most
    STEP_LINES = 16           # features that are summed before they take their steps

# What an entry costs when a batch is copied, and a weight when W is turned and turned back, in seconds.
cdef double COPIED_ENTRY = 6e-9
cdef double TURNED_WEIGHT = 1e-9


ctypedef struct feature_seen:
    int32_t batch                       # the last that had the feature; -1: none yet
    int32_t slot


ctypedef struct sparse_batch:           # a copy of its entries
    Py_ssize_t n_rows, first            # the first row, of the pass
    Py_ssize_t n_slots
    sparse_lines by_row, by_slot
    int32_t *features                   # of each slot
    int32_t *rested                     # of each slot: for how many batches
    int32_t *slot_of                    # of each entry by row; -1 where its row has the weight 0


cdef class SparseEpoch(SparsePass):
    """Minibatches of sparse rows, in order."""
    cdef const int64_t *order               # NULL: as they are stored
    cdef Py_ssize_t batch_rows, n_batches, n_turns, n_rests, n_sums_of_batch, most_slots
    cdef sparse_batch batches[2]            # batch t is in batches[t % 2]
    cdef feature_seen *seen                 # of each feature
    cdef sparse_rests *rests                # of 0 .. n_batches batches
    cdef gradient_sink W_sink, b_sink       # W and velocity are the lines, and those of the caller for b
    cdef double shrinks                     # how far a step moves a weight toward 0
    cdef char *W_turned                     # of the caller: class-major
    cdef char *velocity_turned

    # ---- what is asked for, and how it is cut

    cdef bint anything_rests(self) noexcept:
        return self.W_sink.velocity != NULL or self.W_sink.weight_decay != 0 or self.shrinks != 0

    cdef void plan(self, int n_threads) except *:
        cdef Py_ssize_t i, t, n = self.rows.n_rows, k = self.n_classes, d = self.rows.n_features, entries = 0
        cdef Py_ssize_t n_epoch = self.n_rows(), all_entries = 0
        self.n_batches = ceil_div(n_epoch, self.batch_rows)
        for t in range(self.n_batches):
            entries = 0
            for i in range(t * self.batch_rows, min((t + 1) * self.batch_rows, n_epoch)):
                entries += self.rows.start(self.stored_row(i) + 1) - self.rows.start(self.stored_row(i))
            self.most_entries = max(self.most_entries, entries)
            all_entries += entries
        self.most_slots = min(self.most_entries, d)
        self.n_row_pieces = ceil_div(self.batch_rows, SPARSE_ROWS)
        self.n_column_pieces = max(1, min(STEP_PIECES, self.most_entries // STEP_ENTRIES))
        self.n_rests = self.n_column_pieces if self.anything_rests() else 0
        self.n_turns = ceil_div(d, TURNED_FEATURES)
        self.n_sums_of_batch = ceil_div(self.batch_rows, LOSS_ROWS)
        self.n_tickets = 2 * self.n_turns + 1 + self.n_batches * self.round_size()
        cdef double seconds = (
            all_entries * (COPIED_ENTRY + SPARSE_ENTRY + SPARSE_CLASS * k) + LOGIT * n_epoch * k
            + TURNED_WEIGHT * d * k)
        self.n_threads = threads_that_pay(
            n_threads, self.n_row_pieces + 1, max(self.n_column_pieces, self.n_row_pieces), seconds,
            (3 if self.n_rests > 0 else 2) * self.n_batches)

    cdef inline Py_ssize_t n_rows(self) noexcept nogil:
        return self.n_ordered if self.order != NULL else self.rows.n_rows

    cdef Py_ssize_t n_ordered

    cdef inline Py_ssize_t stored_row(self, Py_ssize_t i) noexcept nogil:
        return self.order[i] if self.order != NULL else i

    cdef inline Py_ssize_t round_size(self) noexcept nogil:
        return self.n_rests + 1 + self.n_row_pieces + self.n_column_pieces

    cdef void allocate(self) except *:
        cdef Py_ssize_t i, j, m = max(self.most_entries, 1), slots = max(self.most_slots, 1)
        cdef sparse_batch *batch
        self.allocate_scratches(STEP_LINES * self.ld)
        self.allocate_sums(self.n_batches * self.n_sums_of_batch)
        self.dlogits = self.take(self.batch_rows * self.ld * self.size, zeroed=False)
        self.bias_of = self.take(self.n_row_pieces * self.n_classes * self.size)
        self.seen = <feature_seen *>self.take(max(self.rows.n_features, 1) * sizeof(feature_seen))
        for j in range(self.rows.n_features):
            self.seen[j].batch = -1
        for i in range(min(2, self.n_batches)):
            batch = &self.batches[i]
            batch.by_row.starts = <int64_t *>self.take((self.batch_rows + 1) * sizeof(int64_t))
            batch.by_row.at = <int32_t *>self.take(m * sizeof(int32_t), zeroed=False)
            batch.by_row.values = self.take(m * self.size, zeroed=False)
            batch.by_slot.starts = <int64_t *>self.take((slots + 2) * sizeof(int64_t))
            batch.by_slot.at = <int32_t *>self.take(m * sizeof(int32_t), zeroed=False)
            batch.by_slot.values = self.take(m * self.size, zeroed=False)
            batch.features = <int32_t *>self.take(slots * sizeof(int32_t), zeroed=False)
            batch.rested = <int32_t *>self.take(slots * sizeof(int32_t), zeroed=False)
            batch.slot_of = <int32_t *>self.take(m * sizeof(int32_t), zeroed=False)
        self.plan_rests()

    cdef void plan_rests(self) except *:
        """What n batches do to a feature that rests: one batch after n - 1."""
        cdef gradient_sink *sink = &self.W_sink
        cdef double rate = sink.learning_rate, decay = sink.weight_decay, m = sink.momentum
        cdef double of_velocity = m * m if sink.nesterov else m, w, v
        cdef Py_ssize_t n
        cdef sparse_rests *before
        cdef sparse_rests *rest
        # g = decay w; v = m v + g; w -= rate (g + m v if nesterov else v)
        cdef double of_W = 1 - rate * decay * (1 + m if sink.nesterov else 1)
        self.rests = <sparse_rests *>self.take((self.n_batches + 1) * sizeof(sparse_rests))
        self.rests[0].W_of_W = self.rests[0].velocity_of_velocity = 1
        for n in range(1, self.n_batches + 1):
            before, rest = &self.rests[n - 1], &self.rests[n]
            w, v = before.W_of_W, before.velocity_of_W
            rest.W_of_W, rest.velocity_of_W = of_W * w - rate * of_velocity * v, decay * w + m * v
            w, v = before.W_of_velocity, before.velocity_of_velocity
            rest.W_of_velocity, rest.velocity_of_velocity = of_W * w - rate * of_velocity * v, decay * w + m * v
            rest.shrinks = abs(of_W) * before.shrinks + self.shrinks

    # ---- tickets

    cdef int64_t awaits(self, int64_t ticket) noexcept nogil:
        cdef int64_t opening = self.n_turns + 1, within
        if ticket < opening:
            return 0
        if ticket >= self.n_tickets - self.n_turns:
            return self.n_tickets - self.n_turns
        within = (ticket - opening) % self.round_size()
        if within >= self.n_rests + 1 + self.n_row_pieces:
            return ticket - within + self.n_rests + 1 + self.n_row_pieces
        return ticket - within + (self.n_rests if within >= self.n_rests else 0)

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        cdef Py_ssize_t opening = self.n_turns + 1, t, within
        cdef char *scratch = self.scratches + thread * self.scratch_bytes
        if ticket == 0:
            self.copy_batch(0)
        elif ticket < opening:
            self.turn(ticket - 1, False)
        elif ticket >= self.n_tickets - self.n_turns:
            self.turn(ticket - (self.n_tickets - self.n_turns), True)
        else:
            t, within = (ticket - opening) // self.round_size(), (ticket - opening) % self.round_size()
            if within < self.n_rests:
                self.catch_up(&self.batches[t % 2], within)
            elif within == self.n_rests:
                self.copy_batch(t + 1)
            elif within <= self.n_rests + self.n_row_pieces:
                self.rows_of(t, within - self.n_rests - 1, scratch)
            else:
                self.step(t, within - self.n_rests - 1 - self.n_row_pieces, scratch)

    cdef void turn(self, Py_ssize_t piece, bint back) noexcept nogil:
        """Make some lines of W and of its velocity; or let them catch up, and write them back."""
        cdef Py_ssize_t d = self.rows.n_features, first = piece * TURNED_FEATURES, j
        cdef Py_ssize_t n = min(TURNED_FEATURES, d - first), k = self.n_classes
        cdef Py_ssize_t line = first * self.W_ld * self.size, column = first * self.size
        cdef char *W = <char *>self.W_sink.W + line
        cdef char *velocity = <char *>self.W_sink.velocity + line if self.W_sink.velocity != NULL else NULL
        cdef int32_t at[TURNED_FEATURES]
        cdef int32_t rested[TURNED_FEATURES]
        if not back:
            self.kernels.transpose(k, n, self.W_turned + column, d, W, self.W_ld)
            if velocity != NULL:
                self.kernels.transpose(k, n, self.velocity_turned + column, d, velocity, self.W_ld)
            return
        if self.n_rests > 0:
            for j in range(n):
                at[j] = <int32_t>j
                rested[j] = <int32_t>(self.n_batches - 1 - self.seen[first + j].batch)
            self.kernels.sparse_rest(n, at, rested, self.rests, k, W, velocity, self.W_ld)
        self.kernels.transpose(n, k, W, self.W_ld, self.W_turned + column, d)
        if velocity != NULL:
            self.kernels.transpose(n, k, velocity, self.W_ld, self.velocity_turned + column, d)

    # ---- a batch

    cdef void copy_batch(self, Py_ssize_t t) noexcept nogil:
        """Copy the entries of a batch by row, then by slot."""
        cdef sparse_batch *batch = &self.batches[t % 2]
        cdef int64_t *starts = <int64_t *>batch.by_row.starts
        cdef int64_t *counts = <int64_t *>batch.by_slot.starts
        cdef int32_t *at = <int32_t *>batch.by_row.at
        cdef char *values = <char *>batch.by_row.values
        cdef Py_ssize_t i, row, n, e = 0
        if t >= self.n_batches:
            return
        batch.first = t * self.batch_rows
        batch.n_rows = min(self.batch_rows, self.n_rows() - batch.first)
        batch.n_slots, starts[0] = 0, 0
        for i in range(batch.n_rows):
            if batch.first + i + 1 < self.n_rows():
                self.fetch_row(self.stored_row(batch.first + i + 1))
            row = self.stored_row(batch.first + i)
            n = self.rows.start(row + 1) - self.rows.start(row)
            self.rows.copy_entries(self.rows.start(row), self.rows.start(row + 1), at + e, values + e * self.size,
                                   self.size)
            self.number_features(t, batch, e, e + n, counts, self.weight == NULL or self.weight[batch.first + i] != 0)
            e += n
            starts[i + 1] = e
        batch.by_row.n_lines, batch.by_slot.n_lines = batch.n_rows, batch.n_slots
        # counts[slot + 2] of entries become counts[slot + 1]: where the next one of the slot goes
        counts[0] = counts[1] = 0
        for i in range(2, batch.n_slots + 1):
            counts[i] += counts[i - 1]
        self.copy_by_slot(batch, counts)

    cdef inline void fetch_row(self, Py_ssize_t row) noexcept nogil:
        cdef Py_ssize_t begin = self.rows.start(row), at
        cdef Py_ssize_t value_size = 1 if self.rows.kind == c"B" else 4 if self.rows.kind == c"f" else 8
        for at in range(0, min(self.rows.start(row + 1) - begin, 64) * self.rows.index_size, 64):
            prefetch(self.rows.indices + begin * self.rows.index_size + at)
            prefetch(self.rows.values + begin * value_size + at)

    cdef inline void number_features(self, Py_ssize_t t, sparse_batch *batch, Py_ssize_t begin, Py_ssize_t end,
                                     int64_t *counts, bint counted) noexcept nogil:
        """Give each new feature a slot, and count its entries."""
        cdef Py_ssize_t e
        cdef feature_seen *seen
        for e in range(begin, end):
            prefetch(self.seen + batch.by_row.at[e])
        for e in range(begin, end):
            seen = self.seen + batch.by_row.at[e]
            if seen.batch != t:
                seen.slot = <int32_t>batch.n_slots
                batch.features[seen.slot] = batch.by_row.at[e]
                batch.rested[seen.slot] = <int32_t>(t - 1 - seen.batch)
                counts[seen.slot + 2] = 0
                seen.batch = <int32_t>t
                batch.n_slots += 1
            batch.slot_of[e] = seen.slot if counted else -1
            counts[seen.slot + 2] += counted

    cdef inline void copy_by_slot(self, sparse_batch *batch, int64_t *next_of) noexcept nogil:
        cdef int32_t *rows = <int32_t *>batch.by_slot.at
        cdef Py_ssize_t i, e
        cdef int64_t place
        for i in range(batch.n_rows):
            for e in range(batch.by_row.starts[i], batch.by_row.starts[i + 1]):
                if batch.slot_of[e] < 0:   # NaN times a dlogit of 0 would be NaN
                    continue
                place = next_of[batch.slot_of[e] + 1]
                next_of[batch.slot_of[e] + 1] = place + 1
                rows[place] = <int32_t>i
                if self.size == 4:
                    (<float *>batch.by_slot.values)[place] = (<float *>batch.by_row.values)[e]
                else:
                    (<double *>batch.by_slot.values)[place] = (<double *>batch.by_row.values)[e]

    cdef void catch_up(self, const sparse_batch *batch, Py_ssize_t piece) noexcept nogil:
        cdef Py_ssize_t begin = piece * batch.n_slots // self.n_rests, end = (piece + 1) * batch.n_slots // self.n_rests
        self.kernels.sparse_rest(end - begin, batch.features + begin, batch.rested + begin, self.rests, self.n_classes,
                                 self.W_sink.W, self.W_sink.velocity, self.W_ld)

    cdef void rows_of(self, Py_ssize_t t, Py_ssize_t piece, char *scratch) noexcept nogil:
        cdef const sparse_batch *batch = &self.batches[t % 2]
        cdef row_span span
        span.piece, span.line, span.at = piece, piece * SPARSE_ROWS, piece * SPARSE_ROWS
        span.first, span.n = batch.first + span.line, min(SPARSE_ROWS, batch.n_rows - span.line)
        span.sums = t * self.n_sums_of_batch + span.line // LOSS_ROWS
        span.factor = 1.0 / batch.n_rows
        if span.n > 0:
            self.from_lines(&span, &batch.by_row, scratch)

    cdef inline Py_ssize_t first_slot(self, const sparse_batch *batch, Py_ssize_t piece) noexcept nogil:
        """Where a piece's slots begin: pieces have about equally many entries."""
        cdef int64_t entries = batch.by_slot.starts[batch.n_slots] * piece // self.n_column_pieces
        cdef Py_ssize_t low = 0, high = batch.n_slots, middle
        if piece >= self.n_column_pieces:
            return batch.n_slots
        while low < high:
            middle = (low + high) // 2
            if batch.by_slot.starts[middle] < entries:
                low = middle + 1
            else:
                high = middle
        return low

    cdef void step(self, Py_ssize_t t, Py_ssize_t piece, char *scratch) noexcept nogil:
        """The features of some slots take their steps; with the first piece, so does the bias."""
        cdef const sparse_batch *batch = &self.batches[t % 2]
        cdef Py_ssize_t slot, end = self.first_slot(batch, piece + 1), n, i, k
        cdef sparse_sink sink
        memset(&sink, 0, sizeof(sparse_sink))
        sink.out, sink.ld, sink.scale = scratch, self.ld, self.scale
        slot = self.first_slot(batch, piece)
        while slot < end:
            n, sink.first_line = min(STEP_LINES, end - slot), slot
            for i in range(slot, slot + n):
                for k in range(0, self.n_classes * self.size, 64):
                    prefetch(<char *>self.W_sink.W + batch.features[i] * self.W_ld * self.size + k)
            self.kernels.sparse_product(&batch.by_slot, slot, slot + n, self.n_classes, self.dlogits, self.ld, False,
                                        &sink)
            self.kernels.sparse_step(
                n, batch.features + slot, self.n_classes, scratch, self.ld, self.W_ld, &self.W_sink, self.shrinks)
            slot += n
        if piece == 0 and self.b_sink.learning_rate != 0:
            self.kernels.add_partials(self.bias_of, self.n_classes, ceil_div(batch.n_rows, SPARSE_ROWS), 0,
                                      self.n_classes, &self.b_sink)


cdef Py_ssize_t width_of_lines(Py_ssize_t n_classes, Py_ssize_t lanes) noexcept:
    """n_classes, or a few more: no line begins in one cache line and ends in the next but one."""
    cdef Py_ssize_t width = 1
    if n_classes > lanes:
        return round_up(n_classes, lanes)
    while width < n_classes:
        width *= 2
    return width


def sparse_minibatches(SparseRows rows, W, b, double scale, *, y, sgd, Py_ssize_t batch_rows, order=None,
                       sample_weight=None, bias_rate=None, double l1=0.0, int n_threads=1):
    """Go through sparse rows in `order`; return (sum of losses, number predicted right), each before its update.

    W (n_classes, n_features) and b (n_classes,) contiguous, float32 or float64, are updated after every `batch_rows`
    rows, as `row_pass` does: sgd = (learning_rate, momentum, nesterov, weight_decay, velocity of W, velocity of b).
    Then every weight moves by `learning_rate` times `l1` toward 0, which it does not cross; without momentum only.
    """
    import numpy as np
    cdef SparseEpoch p = SparseEpoch()
    cdef char kind = kind_of_floats(b, "b")
    cdef Py_ssize_t i, k = len(b), d = rows.n_features
    cdef const double *weight
    cdef const int64_t *labels
    p.views, p.memory, p.rows = [], [], rows
    p.kernels = &isa.f64 if kind == c"d" else &isa.f32
    p.size, p.n_classes, p.n_heads, p.scale = 8 if kind == c"d" else 4, k, 1, scale
    if k == 0 or batch_rows < 1 or d > PY_SSIZE_T_MAX // 64 // k or rows.n_rows > PY_SSIZE_T_MAX // 64 // k:
        raise ValueError(f"{rows.n_rows} rows by {batch_rows}, {d} features of {k} classes: expected one at least, and "
                         "not too many")
    learning_rate, momentum, nesterov, weight_decay, W_velocity, b_velocity = sgd
    if l1 != 0 and W_velocity is not None:
        raise ValueError("l1: expected no momentum")
    p.W_turned = <char *>pointer(p.views, W, k * d, kind, True, "W")
    p.b = <const char *>pointer(p.views, b, k, kind, True, "b")
    if order is not None:
        p.n_ordered, p.order = len(order), <const int64_t *>pointer(p.views, order, len(order), INT64, False, "order")
        for i in range(p.n_ordered):
            if not 0 <= p.order[i] < rows.n_rows:
                raise ValueError(f"order[{i}] is {p.order[i]}, expected 0..{rows.n_rows - 1}")
    if p.n_rows() == 0 or p.n_rows() >= 1 << 31:
        raise ValueError(f"an epoch of {p.n_rows()} rows, expected at least one and fewer than 2^31")
    p.batch_rows = min(batch_rows, p.n_rows())

    # what a row needs besides its entries, in the order of the epoch
    labels = <const int64_t *>pointer(p.views, y, rows.n_rows, INT64, False, "y")
    p.y = <int64_t *>p.take(p.n_rows() * sizeof(int64_t), zeroed=False)
    for i in range(p.n_rows()):
        (<int64_t *>p.y)[i] = labels[p.stored_row(i)]
    if sample_weight is not None:
        weight = <const double *>pointer(p.views, sample_weight, rows.n_rows, c"d", False, "sample_weight")
        p.weight = <double *>p.take(p.n_rows() * sizeof(double), zeroed=False)
        for i in range(p.n_rows()):
            (<double *>p.weight)[i] = weight[p.stored_row(i)]

    # NumPy's arrays, as it asks the system for huge pages
    p.ld, p.W_ld = round_up(k, 64 // p.size), width_of_lines(k, 64 // p.size)
    lines = np.empty((2 if W_velocity is not None else 1, d, p.W_ld), f"f{p.size}")
    p.W_sink.W = p.W = <char *>pointer(p.views, lines[0], d * p.W_ld, kind, True, "lines")
    if W_velocity is not None:
        p.W_sink.velocity = pointer(p.views, lines[1], d * p.W_ld, kind, True, "lines")
        p.velocity_turned = <char *>pointer(p.views, W_velocity, k * d, kind, True, "velocity of W")
        p.b_sink.velocity = pointer(p.views, b_velocity, k, kind, True, "velocity of b")
    p.b_sink.W = <void *>p.b
    p.W_sink.first = p.W_sink.last = p.b_sink.first = p.b_sink.last = True
    p.W_sink.scale = p.b_sink.scale = 1.0      # the product's sink has the scale
    p.W_sink.learning_rate, p.W_sink.weight_decay = learning_rate, weight_decay
    p.b_sink.learning_rate = learning_rate if bias_rate is None else bias_rate
    p.W_sink.momentum = p.b_sink.momentum = momentum
    p.W_sink.nesterov = p.b_sink.nesterov = nesterov
    p.shrinks = p.W_sink.learning_rate * l1
    p.plan(n_threads)
    p.allocate()
    p.run()
    cdef double loss = 0.0
    cdef int64_t correct = 0
    for i in range(p.n_batches * p.n_sums_of_batch):
        loss += p.loss_of[i]
        correct += p.correct_of[i]
    p.memory = None
    return loss, correct
