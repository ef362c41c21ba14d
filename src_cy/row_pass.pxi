# Rows of X: the passes that train, evaluate and predict. Included by _kernels.pyx.

# Rows of a row piece, features of a gradient piece: enough work for a ticket, enough tickets for a team.
cdef enum:
    FEW_ROWS = 32            # of a row piece where W stays in the second-level cache,
    MANY_ROWS = 128          # and where it must be read anew for every piece
    PIECE_FEATURES = 64
    FEWEST_FEATURES = 128    # of dot products: from there on, adding up the lanes does not count
    LOSS_ROWS = 32           # whose losses are added up first
    BLOCK_ROWS = 1024
    BLOCK_BYTES = 1 << 20    # of dlogits, and of X: so that both stay in the second-level cache
    SPILLED_BYTES = 1 << 24  # of dlogits, if they cannot: W and its gradient, read for each block, cost more then
    # where gradients are small:
    OWN_BYTES = 1 << 19      # of a head's gradient, at most
    LANES = 8                # at most: more threads than that find no bandwidth for so few classes
    LEAST_PART = 128         # rows of a part
    MOST_PART = 1024
    PIXEL_ROWS = 256         # of a block of pixels on tiles that are not in order (amx copies them), or of many classes
    # where tiles multiply:
    TILE_BLOCK_ROWS = 512
    TILE_BLOCK_BYTES = 1 << 22
    TILE_PIECE_ROWS = 256    # of a thread in a block: W may have to be packed for each piece
    MOST_UNEVEN = 1024       # times the smallest weight: digits are of the largest dlogit's magnitude


cdef class RowPass(Team):
    """One pass over rows of X, its batches cut into parts of rows; heads are evaluated side by side.

    Where gradients are small, a part is one ticket: logits, loss, dlogits and gradient of a block of rows after the
    other. The gradient joins the lane of the part, a sum of its own; when all parts of a batch are done, the lanes
    are added up, and stored or applied to W: a ticket for each of some ranges of parameters.

    Where gradients are large, a part is a block that all threads share: row pieces end with dlogits, feature pieces,
    which wait for them, sum the gradient of some features over all its rows, and store it or apply it to W. Without
    a gradient there are only row pieces, and nobody waits.
    """
    cdef const kernel_table *kernels
    cdef list views
    cdef int source
    cdef Py_ssize_t size                        # bytes of a float of the compute type
    cdef Py_ssize_t n_rows, n_features, n_heads
    cdef Py_ssize_t n_classes                   # of all heads, which lie side by side
    cdef const char *X
    cdef Py_ssize_t row_stride, column_stride, item_size
    cdef bint packed, reversed
    cdef const void *W
    cdef const void *b
    cdef double scale, factor
    cdef const int64_t *y
    cdef const int64_t *order
    cdef const double *weight                   # one row of n_stored, or one for each of several heads
    cdef const int64_t *weight_of_head          # which of these rows is a head's; NULL: all have the first
    cdef Py_ssize_t n_stored
    cdef gradient_sink W_sink, b_sink
    cdef bint has_gradient, updates, freezes_bias, uneven_weights
    cdef char *logits
    cdef Py_ssize_t logits_stride               # in floats
    cdef char *losses
    cdef int64_t *predictions
    # the plan
    cdef Py_ssize_t batch_rows, part_rows, parts_per_batch, block_rows, piece_rows
    cdef Py_ssize_t n_lanes, n_ranges                          # 0 lanes: blocks are shared
    cdef Py_ssize_t n_row_pieces, n_feature_pieces, piece_features
    cdef Py_ssize_t sum_rows                    # of a block that a gradient sums before they join a total
    cdef const tile_kernels *tiles              # NULL: the products of kernels
    # the scratch of a block (with a gradient) or of a thread (without)
    cdef Scratch scratch
    cdef char *slots
    cdef char *panels                           # one per thread: of X, or of W and dlogits for tiles
    # per thread: 2 batch (0 if W stays) + 1 if its panel has W as it is in that batch, 2 batch if W cannot be packed
    cdef int64_t *weights_of_batch
    cdef Py_ssize_t at_weights, at_rows
    cdef Py_ssize_t panel_bytes, slot_bytes, at_logits, at_packed, at_labels, at_factors, at_losses, at_predictions
    cdef Py_ssize_t slot_rows, ld, row_bytes
    cdef Scratch totals, partial, zero_row, panel_block
    cdef char *lanes
    cdef int64_t *lane_is_at                    # the last ticket that added to it
    cdef int64_t *claims                        # of parts, then of ranges: how many batches have taken them
    cdef Py_ssize_t lane_size                   # in floats: a gradient of W, then of b
    cdef const void *zeros                      # a row that stands in for rows of weight 0
    cdef double *loss_of                        # by LOSS_ROWS rows, and head
    cdef int64_t *correct_of

    cdef void take_data(self, X, y, order) except *:
        cdef View view = View(X, PyBUF_STRIDES)
        cdef const char *kinds = b"Befd"          # in the order of kernels.h
        cdef char kind = view.kind()
        self.views = [view]
        self.source = 0
        while self.source < 4 and kinds[self.source] != kind:
            self.source += 1
        if self.source == 4 or view.buffer.ndim != 2:
            raise TypeError("X: expected two dimensions of uint8, float16, float32 or float64")
        self.X = <const char *>view.buffer.buf
        self.n_features = view.buffer.shape[1]
        self.row_stride, self.column_stride = view.buffer.strides[0], view.buffer.strides[1]
        self.item_size = view.buffer.itemsize
        self.row_bytes = self.n_features * self.item_size
        self.reversed = view.reversed()
        # Rows that are not contiguous, native and aligned are copied, as they are, one block at a time.
        self.packed = (self.reversed or (self.column_stride != self.item_size and self.n_features > 1)
                       or (<uintptr_t>self.X | <uintptr_t>self.row_stride) % self.item_size != 0)
        self.n_stored = view.buffer.shape[0]
        self.n_rows = self.n_stored if order is None else len(order)
        if order is not None:
            self.order = <const int64_t *>self.take(order, self.n_rows, INT64, False, "order")
        if y is not None:
            self.y = <const int64_t *>self.take(y, self.n_stored, INT64, False, "y")
        cdef Py_ssize_t i
        for i in range(self.n_rows if self.order != NULL else 0):
            if not 0 <= self.order[i] < self.n_stored:
                raise ValueError(f"order[{i}] is {self.order[i]}, expected 0..{self.n_stored - 1}")

    cdef void take_weights(self, sample_weight, weight_of_head, bint has_heads) except *:
        cdef Py_ssize_t h, i, n_weights = 1 if sample_weight.ndim == 1 else sample_weight.shape[0]
        cdef double smallest = INFINITY, largest = 0.0
        if n_weights < 1:
            raise ValueError("sample_weight has no rows")
        self.weight = <const double *>self.take(
            sample_weight, n_weights * self.n_stored, c"d", False, "sample_weight")
        # Not with heads, each of which must have the bits that it would have alone.
        for i in range(0 if has_heads else self.n_stored):
            largest = max(largest, self.weight[i])
            if 0.0 < self.weight[i] < smallest:
                smallest = self.weight[i]
        self.uneven_weights = largest > MOST_UNEVEN * smallest
        if weight_of_head is None:
            return
        self.weight_of_head = <const int64_t *>self.take(
            weight_of_head, self.n_heads, INT64, False, "weight_of_head")
        for h in range(self.n_heads):
            if not 0 <= self.weight_of_head[h] < n_weights:
                raise ValueError(f"weight_of_head[{h}] is {self.weight_of_head[h]}, expected 0..{n_weights - 1}")

    cdef void *take(self, array, Py_ssize_t size, char kind, bint writable, str name) except? NULL:
        cdef View view = contiguous(array, size, kind, writable, name)
        self.views.append(view)
        return view.buffer.buf

    cdef void plan(self, Py_ssize_t batch_rows, int n_threads) except *:
        """Cut the work. What shapes a sum (parts, sum_rows) depends on neither n_threads nor n_heads."""
        self.batch_rows = max(1, min(batch_rows if batch_rows > 0 else self.n_rows, self.n_rows))
        self.tiles = self.kernels.tiles[self.source]
        if self.tiles != NULL and (
                self.batch_rows < self.tiles.fewest_rows or not 0 < self.n_features <= self.tiles.most_features
                or self.n_classes // self.n_heads < self.tiles.fewest_classes
                or self.source == 0 and self.uneven_weights):
            self.tiles = NULL
        self.n_lanes = 0
        if self.has_gradient and self.n_features * (self.n_classes // self.n_heads) * self.size <= OWN_BYTES:
            self.plan_lanes()
        elif self.tiles != NULL:
            self.plan_tiles()
        else:
            self.plan_panels()
        self.sum_rows = self.block_rows
        self.n_threads = self.choose_threads(n_threads)
        if self.n_lanes > 0:
            self.n_ranges = self.n_threads if self.n_lanes > 1 else 0
            self.n_tickets = self.n_batches() * (self.parts_per_batch + self.n_ranges)
            return
        cdef Py_ssize_t rows = self.n_rows
        if self.tiles != NULL:   # whose sums do not depend on pieces: as large as they can be
            if self.has_gradient:
                rows = min(self.n_threads * TILE_PIECE_ROWS, self.most_tile_rows())
                rows = self.block_rows = self.sum_rows * max(1, rows // self.sum_rows)
            self.piece_rows = min(TILE_BLOCK_ROWS, round_up(ceil_div(max(rows, 1), self.n_threads), LOSS_ROWS))
            self.piece_features = round_up(ceil_div(self.n_features, self.n_threads), PIECE_FEATURES)
        if not self.has_gradient:
            self.block_rows = self.batch_rows = self.piece_rows
        self.part_rows = self.block_rows
        self.parts_per_batch = ceil_div(self.batch_rows, self.part_rows)
        self.n_row_pieces = ceil_div(self.block_rows, self.piece_rows)
        self.n_feature_pieces = max(1, ceil_div(self.n_features, self.piece_features)) if self.has_gradient else 0
        self.n_tickets = self.n_parts() * (self.n_row_pieces + self.n_feature_pieces)
        cdef Py_ssize_t at_once = max(self.n_row_pieces, self.n_feature_pieces)
        self.n_threads = max(1, min(self.n_threads, at_once if self.has_gradient else self.n_tickets))

    cdef int choose_threads(self, int n_threads) noexcept:
        """How many threads pay for this pass, by the smallest pieces that there can be."""
        cdef double products = (4.0 if self.has_gradient else 2.0) * self.n_features * self.n_classes / FLOPS
        cdef double seconds = (products + LOGIT * self.n_classes) * self.size / 4
        cdef Py_ssize_t rows = self.n_rows, piece_rows = self.piece_rows, n_pieces, n_blocks
        if self.tiles != NULL:
            seconds = products / self.tiles.speed + LOGIT * self.n_classes
            piece_rows = LOSS_ROWS
        seconds = self.n_rows * (seconds + self.row_bytes / BANDWIDTH)
        if self.n_lanes > 0:
            n_pieces = self.parts_per_batch
            return threads_that_pay(min(n_threads, self.n_lanes), n_pieces, n_pieces, seconds, 2 * self.n_batches())
        if not self.has_gradient:
            n_pieces = ceil_div(rows, piece_rows)
            return threads_that_pay(n_threads, n_pieces, n_pieces, seconds, 0)
        n_blocks = self.n_batches() * ceil_div(self.batch_rows, self.block_rows)
        rows = self.block_rows if self.tiles == NULL else max(self.block_rows, self.most_tile_rows())
        n_pieces = max(1, ceil_div(self.n_features, PIECE_FEATURES))
        return threads_that_pay(n_threads, ceil_div(rows, piece_rows), n_pieces, seconds, 2 * n_blocks)

    cdef Py_ssize_t most_tile_rows(self) noexcept:
        """Of a block that threads share."""
        return min(self.batch_rows, TILE_BLOCK_BYTES // (self.n_classes * self.size))

    cdef void plan_lanes(self) except *:
        cdef Py_ssize_t rows = round_up(ceil_div(self.batch_rows, LANES), LOSS_ROWS)
        rows = max(LEAST_PART, min(rows, MOST_PART))
        self.part_rows = rows if rows <= GRADIENT_CHUNK else round_up(rows, GRADIENT_CHUNK)
        self.parts_per_batch = ceil_div(self.batch_rows, self.part_rows)
        self.n_lanes = min(LANES, self.parts_per_batch)
        self.W_sink.last = self.b_sink.last = 1
        if self.tiles == NULL:
            self.plan_panels()
            self.block_rows = min(self.block_rows, GRADIENT_CHUNK, self.part_rows)
        else:
            self.plan_tiles()
            rows = TILE_BLOCK_ROWS
            if self.source == 0 and (
                    self.order != NULL or rows * (self.n_classes // self.n_heads) * self.size > BLOCK_BYTES):
                rows = PIXEL_ROWS
            self.block_rows = min(self.block_rows, self.part_rows, rows)
            self.piece_rows = self.block_rows

    cdef void plan_panels(self) except *:
        cdef Py_ssize_t fitting = BLOCK_BYTES // max(self.n_classes * self.size, self.row_bytes)
        cdef Py_ssize_t alone = BLOCK_BYTES // max(self.n_classes // self.n_heads * self.size, self.row_bytes)
        cdef Py_ssize_t class_bytes, least, rows = min(fitting, BLOCK_ROWS) // GRADIENT_CHUNK * GRADIENT_CHUNK
        if rows == 0:
            class_bytes = self.n_classes // self.n_heads * self.size
            if class_bytes > self.row_bytes:
                alone = max(SPILLED_BYTES, self.n_features * class_bytes // 4) // class_bytes
            # fewer rows cost more sums; a block that leaves the cache is read twice (bench --only growth/n_features)
            least = FEW_ROWS if self.n_lanes > 0 and FEW_ROWS * self.row_bytes > BLOCK_BYTES else 2 * FEW_ROWS
            rows = min(GRADIENT_CHUNK, max(least, alone // FEW_ROWS * FEW_ROWS))
        self.block_rows = min(self.batch_rows, rows)
        self.piece_rows = MANY_ROWS if self.n_classes * self.n_features * self.size > 1 << 18 else FEW_ROWS
        self.piece_rows = max(FEW_ROWS, min(self.piece_rows, rows // 2 // FEW_ROWS * FEW_ROWS))
        self.piece_features = PIECE_FEATURES

    cdef void plan_tiles(self) except *:
        cdef Py_ssize_t fitting = TILE_BLOCK_BYTES // self.row_bytes // 64 * 64
        self.block_rows = min(self.batch_rows, max(64, min(fitting, TILE_BLOCK_ROWS)))

    cdef Py_ssize_t n_batches(self) noexcept:
        return ceil_div(self.n_rows, self.batch_rows)

    cdef Py_ssize_t n_parts(self) noexcept:
        return self.n_batches() * self.parts_per_batch

    cdef void allocate(self) except *:
        cdef Py_ssize_t at = 0, rows = self.block_rows
        self.slot_rows = round_up(rows, 32)
        self.ld = self.slot_rows + 32
        if self.ld * self.size % 4096 == 0:   # classes that far apart would share a cache set
            self.ld += 32
        at = 2 * self.slot_rows * sizeof(void *)   # rows, and those of the next block
        self.at_logits = round_up(at, 64)
        at = self.at_logits + round_up(self.n_classes, 1 if self.tiles == NULL else 32) * self.ld * self.size
        self.at_packed = round_up(at, 64)
        at = self.at_packed + (rows * self.row_bytes if self.packed else 0)
        if self.weight != NULL:
            self.zero_row = Scratch()
            self.zeros = self.zero_row.take(self.row_bytes)
        self.at_rows = round_up(at, 64)
        at = self.at_rows + (self.slot_rows * self.tiles.row_bytes(self.n_features) if self.tiles != NULL else 0)
        self.at_labels = round_up(at, 64)
        self.at_predictions = self.at_labels + self.slot_rows * sizeof(int64_t)
        self.at_factors = self.at_predictions + self.slot_rows * sizeof(int64_t)
        self.at_losses = self.at_factors + self.slot_rows * self.size
        self.slot_bytes = round_up(self.at_losses + self.slot_rows * self.size, 64)
        self.panel_bytes = self.size * max(
            <Py_ssize_t>FORWARD_PANEL * round_up(self.piece_rows, 32), <Py_ssize_t>GRADIENT_PANEL * self.slot_rows)
        if self.tiles != NULL:
            self.panel_bytes = max(self.panel_bytes, self.tiles.forward_bytes(self.n_features))
            if self.has_gradient:
                self.panel_bytes = max(self.panel_bytes, self.tiles.gradient_bytes(self.sum_rows, self.n_classes))
            self.at_weights = round_up(self.panel_bytes, 64)
            self.panel_bytes = self.at_weights + self.tiles.weights_bytes(self.n_features, self.n_classes)
        cdef bint shared = self.has_gradient and self.n_lanes == 0
        cdef Py_ssize_t n_slots = 1 if shared else self.n_threads
        self.scratch = Scratch()
        self.slots = self.scratch.take(self.slot_bytes * n_slots)
        self.panel_block = Scratch()
        self.panels = self.panel_block.take(self.panel_bytes * self.n_threads, zeroed=False)
        cdef Py_ssize_t n_sums = self.n_sums()
        self.totals = Scratch()
        self.loss_of = <double *>self.totals.take((2 * n_sums + self.n_threads) * sizeof(int64_t))
        self.correct_of = <int64_t *>(self.loss_of + n_sums)
        self.weights_of_batch = self.correct_of + n_sums
        cdef int thread
        for thread in range(self.n_threads):
            self.weights_of_batch[thread] = -1
        cdef Py_ssize_t n_parameters = (self.n_features + 1) * self.n_classes
        if self.n_lanes > 0:
            self.lane_size = round_up(n_parameters, 16)
            self.partial = Scratch()
            self.lane_is_at = <int64_t *>self.partial.take(
                3 * LANES * sizeof(int64_t) + self.n_lanes * self.lane_size * self.size, zeroed=False)
            self.claims = self.lane_is_at + LANES
            self.lanes = <char *>(self.claims + 2 * LANES)
            memset(self.lane_is_at, -1, LANES * sizeof(int64_t))
            memset(self.claims, 0, 2 * LANES * sizeof(int64_t))
        elif self.updates and self.batch_rows > self.sum_rows:  # the gradient of an unfinished batch
            self.partial = Scratch()
            self.W_sink.gradient = self.partial.take(n_parameters * self.size)
            self.b_sink.gradient = <char *>self.W_sink.gradient + self.n_features * self.n_classes * self.size

    cdef inline Py_ssize_t n_sums(self) noexcept:
        return self.n_parts() * ceil_div(self.part_rows, LOSS_ROWS) * self.n_heads

    cdef void part_span(self, int64_t part, Py_ssize_t *begin, Py_ssize_t *end, Py_ssize_t *batch_size) noexcept nogil:
        """Rows begin..end of a part, and how many rows its batch has."""
        cdef Py_ssize_t batch = part // self.parts_per_batch
        cdef Py_ssize_t batch_end = min((batch + 1) * self.batch_rows, self.n_rows)
        batch_size[0] = batch_end - batch * self.batch_rows
        begin[0] = min(batch * self.batch_rows + part % self.parts_per_batch * self.part_rows, batch_end)
        end[0] = min(begin[0] + self.part_rows, batch_end)

    cdef bint work(self, int slot, double until) noexcept nogil:
        if self.tiles == NULL:
            return Team.work(self, slot, until)
        self.tiles.open()
        cdef bint finished = Team.work(self, slot, until)
        self.tiles.close()
        return finished

    cdef int64_t awaits(self, int64_t ticket) noexcept nogil:
        cdef int64_t first = self.n_row_pieces, phases = self.n_row_pieces + self.n_feature_pieces
        if self.n_lanes > 0:
            first, phases = self.parts_per_batch, self.parts_per_batch + self.n_ranges
        elif self.n_feature_pieces == 0:
            return 0
        return ticket - ticket % phases + (first if ticket % phases >= first else 0)

    cdef void piece(self, int64_t ticket, int slot) noexcept nogil:
        if self.n_lanes > 0:
            self.own_piece(ticket, slot)
        else:
            self.shared_piece(ticket, slot)

    cdef void own_piece(self, int64_t ticket, int slot) noexcept nogil:
        cdef int64_t per_batch = self.parts_per_batch + self.n_ranges
        cdef int64_t batch = ticket // per_batch
        cdef Py_ssize_t part = ticket % per_batch, lane
        if part >= self.parts_per_batch:
            self.add_lanes(batch, self.claim(batch, LANES, self.n_ranges, slot))
            return
        if self.parts_per_batch <= self.n_lanes:
            part = self.claim(batch, 0, self.parts_per_batch, slot)
        lane = part % self.n_lanes
        if part >= self.n_lanes and not wait_for(&self.office, &self.lane_is_at[lane], ticket - self.n_lanes):
            return
        self.part_to_lane(batch, part, lane, slot)
        set_counter(&self.lane_is_at[lane], ticket)

    cdef Py_ssize_t claim(self, int64_t batch, Py_ssize_t first, Py_ssize_t n, int slot) noexcept nogil:
        """One of n parts or ranges of the batch for this thread: if it can, what it had before and has in its cache."""
        cdef Py_ssize_t i = slot * n // self.n_threads
        while not claimed(&self.claims[first + i], batch):
            i = i + 1 if i + 1 < n else 0
        return i

    cdef void part_to_lane(self, int64_t batch, Py_ssize_t part, Py_ssize_t lane, int slot) noexcept nogil:
        """Rows to gradient, a block after the other."""
        cdef gradient_sink W_sink = self.W_sink, b_sink = self.b_sink
        cdef Py_ssize_t begin, end, batch_size, block, next_block, n, at, i, j
        cdef Py_ssize_t sums = (batch * self.parts_per_batch + part) * ceil_div(self.part_rows, LOSS_ROWS)
        cdef char *scratch = self.slots + slot * self.slot_bytes
        cdef char *panel = self.panels + slot * self.panel_bytes
        if self.n_lanes > 1:
            W_sink.W = b_sink.W = NULL
        if self.n_lanes > 1 or self.updates:
            W_sink.gradient = self.lanes + lane * self.lane_size * self.size
            b_sink.gradient = <char *>W_sink.gradient + self.n_features * self.n_classes * self.size
        self.part_span(batch * self.parts_per_batch + part, &begin, &end, &batch_size)
        for i in range(ceil_div(end - begin, self.block_rows)):
            block = begin + i * self.block_rows
            n = min(self.block_rows, end - block)
            next_block = block + n if block + n < end else begin + self.batch_rows
            for j in range(ceil_div(n, self.piece_rows)):
                at = j * self.piece_rows
                self.row_piece(scratch, panel, slot, at, min(self.piece_rows, n - at), block + at,
                               block + at + self.piece_rows if at + self.piece_rows < n else next_block,
                               sums + (block - begin + at) // LOSS_ROWS, batch, batch_size)
            W_sink.first = b_sink.first = block == begin and part < self.n_lanes
            W_sink.last = b_sink.last = block + n == end and self.n_lanes == 1
            self.feature_piece(scratch, panel, block, 0, n, self.n_later(next_block, n), 0, self.n_features, &W_sink)
            self.bias_piece(scratch, 0, n, &b_sink)

    cdef void add_lanes(self, int64_t batch, Py_ssize_t part) noexcept nogil:
        """The sum of the lanes, of one range of parameters, goes where it is wanted."""
        cdef Py_ssize_t n = self.n_features * self.n_classes
        cdef Py_ssize_t batch_size = min(self.batch_rows, self.n_rows - batch * self.batch_rows)
        cdef Py_ssize_t n_lanes = min(self.n_lanes, ceil_div(batch_size, self.part_rows))
        cdef Py_ssize_t size = round_up(ceil_div(n, self.n_ranges), 64)
        self.kernels.add_lanes(self.lanes, self.lane_size, n_lanes, part * size, min((part + 1) * size, n), self.scale,
                               &self.W_sink)
        if part == 0 and not self.freezes_bias:
            self.kernels.add_lanes(self.lanes + n * self.size, self.lane_size, n_lanes, 0, self.n_classes, 1.0,
                                   &self.b_sink)

    cdef void shared_piece(self, int64_t ticket, int slot) noexcept nogil:
        cdef int64_t phases = self.n_row_pieces + self.n_feature_pieces
        cdef int64_t part = ticket // phases, piece = ticket % phases
        cdef Py_ssize_t begin, end, batch_size, at, n, first, i
        cdef bint last
        cdef gradient_sink W_sink = self.W_sink, b_sink = self.b_sink
        cdef char *scratch = self.slots + (0 if self.has_gradient else slot * self.slot_bytes)
        cdef char *panel = self.panels + slot * self.panel_bytes
        self.part_span(part, &begin, &end, &batch_size)
        if piece < self.n_row_pieces:
            at = piece * self.piece_rows
            n = min(end - begin - at, self.piece_rows)
            if n > 0:
                self.row_piece(scratch, panel, slot, at, n, begin + at, end + at,
                               part * ceil_div(self.part_rows, LOSS_ROWS) + at // LOSS_ROWS,
                               part // self.parts_per_batch, batch_size)
        elif end > begin:
            first = (piece - self.n_row_pieces) * self.piece_features
            last = end == min(self.n_rows, (part // self.parts_per_batch + 1) * self.batch_rows)
            for i in range(ceil_div(end - begin, self.sum_rows)):
                at = i * self.sum_rows
                n = min(self.sum_rows, end - begin - at)
                W_sink.first = b_sink.first = part % self.parts_per_batch == 0 and at == 0
                W_sink.last = b_sink.last = last and begin + at + n == end
                self.feature_piece(scratch, panel, begin, at, n, self.n_later(end + at, n), first,
                                   min(first + self.piece_features, self.n_features), &W_sink)
                if first == 0:
                    self.bias_piece(scratch, at, n, &b_sink)

    cdef inline Py_ssize_t n_later(self, Py_ssize_t begin, Py_ssize_t n) noexcept nogil:
        """How many of n rows from `begin` there are to fetch."""
        return 0 if self.packed else max(0, min(n, self.n_rows - begin))

    cdef inline Py_ssize_t n_later_in_forward(self, Py_ssize_t n_later) noexcept nogil:
        """How many of them the first product on tiles fetches; the others come with the second."""
        cdef bint shared = self.has_gradient and self.tiles != NULL and self.tiles.fetches_in_forward
        return n_later // 2 if shared else 0

    cdef inline const char *staged(self, char *scratch, Py_ssize_t block, Py_ssize_t at,
                                   Py_ssize_t *stride) noexcept nogil:
        """Where tiles find row `at` of a block, and how far apart the others: where they lie, if they are in order and
        others come after them, into which the last step of a row may go; else copied to scratch."""
        if (self.n_lanes > 0 and self.order == NULL and not self.packed and self.row_stride >= self.row_bytes >= 64
                and block + self.slot_rows < self.n_rows):
            stride[0] = self.row_stride
            return self.row(block + at)
        stride[0] = self.tiles.row_bytes(self.n_features)
        return scratch + self.at_rows + at * stride[0]

    cdef inline const char *row(self, Py_ssize_t i) noexcept nogil:
        return self.X + (self.order[i] if self.order != NULL else i) * self.row_stride

    cdef inline forward_kernel forward_of(self, Py_ssize_t n_rows) noexcept nogil:
        """The kernel of logits for a batch (or pass) of so many rows: the one that each head would have alone."""
        cdef bint few = (self.n_classes // self.n_heads <= self.kernels.dot_classes
                         and self.n_features >= FEWEST_FEATURES)
        return self.kernels.dots[self.source] if few or n_rows == 1 else self.kernels.forward[self.source]

    cdef void row_piece(self, char *scratch, char *panel, int slot, Py_ssize_t at, Py_ssize_t n, Py_ssize_t row_begin,
                        Py_ssize_t later_begin, Py_ssize_t sums, int64_t batch, Py_ssize_t batch_size) noexcept nogil:
        """Logits, then loss and dlogits (or predictions) of n rows at `at` of the block; rows from `later_begin` come
        next in this place, losses go to `sums`."""
        cdef const void *weights = self.weights_for_tiles(panel, slot, batch) if self.tiles != NULL else NULL
        # no product on tiles of packed weights reads this list, but for a gradient
        cdef Py_ssize_t i, n_later = self.n_later(later_begin, n) if weights == NULL or self.has_gradient else 0
        cdef const void **rows = <const void **>scratch + at
        cdef char *logits = scratch + self.at_logits + at * self.size
        for i in range(n):
            rows[i] = self.row(row_begin + i)
            if self.packed:
                copy_items(scratch + self.at_packed + (at + i) * self.row_bytes, self.item_size,
                           <const char *>rows[i], self.column_stride, self.n_features, self.item_size,
                           self.reversed)
                rows[i] = scratch + self.at_packed + (at + i) * self.row_bytes
        # A row of the next block is a cache miss: start it while this block computes.
        cdef const void **later = rows + self.slot_rows
        for i in range(n_later):
            later[i] = self.row(later_begin + i)
            if self.order != NULL and self.y != NULL:
                prefetch(self.y + self.order[later_begin + i])
        cdef bint finished = False
        cdef Py_ssize_t stride
        cdef void *staged
        if self.tiles != NULL:
            staged = <void *>self.staged(scratch, row_begin - at, at, &stride)
            finished = self.tiles.forward(
                rows, n, later, self.n_later_in_forward(n_later), self.n_features, self.W, weights, self.b,
                self.n_classes, self.scale, logits, self.ld, staged, stride, panel)
        if not finished:
            # A row alone is summed in another order: not where only the cut into pieces has left it alone.
            self.forward_of(batch_size if self.has_gradient else self.n_rows)(
                rows, later if n_later == n else NULL, n, self.n_features, self.W, self.b, self.n_classes, self.scale,
                logits, self.ld, panel)
        if self.logits != NULL:
            self.kernels.transpose(self.n_classes, n, logits, self.ld,
                                   self.logits + row_begin * self.logits_stride * self.size, self.logits_stride)
        cdef Py_ssize_t head, done
        if self.y != NULL:
            for i in range(ceil_div(n, LOSS_ROWS)):
                done = i * LOSS_ROWS
                for head in range(self.n_heads):
                    self.losses_of(scratch, at + done, row_begin + done, min(n - done, LOSS_ROWS), sums + i,
                                   batch_size, head)
            if self.predictions != NULL:
                memcpy(self.predictions + row_begin, scratch + self.at_predictions + at * sizeof(int64_t),
                       n * sizeof(int64_t))
        elif self.predictions != NULL:
            self.kernels.argmax_columns(n, self.n_classes, logits, self.ld, self.predictions + row_begin)

    cdef const void *weights_for_tiles(self, char *panel, int slot, int64_t batch) noexcept nogil:
        """W as it is in this batch, packed into the thread's panel unless it is there; NULL if it is not finite,
        too uneven, or not to be packed."""
        cdef int64_t here = 2 * (batch if self.updates else 0) + 1
        if self.panel_bytes == self.at_weights:
            return NULL
        if self.weights_of_batch[slot] | 1 != here:
            self.weights_of_batch[slot] = here - 1 + self.tiles.pack_weights(
                self.W, self.n_features, self.n_classes, panel + self.at_weights)
        return panel + self.at_weights if self.weights_of_batch[slot] == here else NULL

    cdef inline double weight_of(self, Py_ssize_t head, Py_ssize_t stored) noexcept nogil:
        if self.weight == NULL:
            return 1.0
        return self.weight[(self.weight_of_head[head] * self.n_stored if self.weight_of_head != NULL else 0) + stored]

    cdef void losses_of(self, char *scratch, Py_ssize_t at, Py_ssize_t row_begin, Py_ssize_t n, Py_ssize_t sums,
                        Py_ssize_t batch_size, Py_ssize_t head) noexcept nogil:
        """Softmax, loss and dlogits of a head for n <= LOSS_ROWS rows at `at` of the block, whose logits are there."""
        cdef Py_ssize_t i, stored, n_classes = self.n_classes // self.n_heads
        cdef int64_t *labels = <int64_t *>(scratch + self.at_labels) + at
        cdef int64_t *predictions = <int64_t *>(scratch + self.at_predictions) + at
        cdef char *factors = scratch + self.at_factors + at * self.size
        cdef char *losses = scratch + self.at_losses + at * self.size
        cdef double weight, loss, factor = 1.0 / batch_size if self.updates else self.factor
        for i in range(n):
            stored = self.order[row_begin + i] if self.order != NULL else row_begin + i
            labels[i] = self.y[stored]
            weight = self.weight_of(head, stored)
            if self.size == 4:
                (<float *>factors)[i] = <float>(factor * weight)
            else:
                (<double *>factors)[i] = factor * weight
        self.kernels.cross_entropy_columns(
            n, n_classes, scratch + self.at_logits + (head * n_classes * self.ld + at) * self.size, self.ld, labels,
            factors if self.has_gradient else NULL, losses, predictions)
        cdef double total = 0.0
        cdef int64_t correct = 0
        for i in range(n):
            stored = self.order[row_begin + i] if self.order != NULL else row_begin + i
            weight = self.weight_of(head, stored)
            loss = (<float *>losses)[i] if self.size == 4 else (<double *>losses)[i]
            loss = weight * loss if weight != 0.0 else 0.0   # left out, even if it is NaN
            total += loss
            correct += predictions[i] == labels[i]
            if weight == 0.0 and self.n_heads == 1:   # nor may a NaN in its row reach the gradient, as 0 * NaN
                (<const void **>scratch)[at + i] = self.zeros
            if self.losses != NULL and self.size == 4:
                (<float *>self.losses)[row_begin + i] = <float>loss
            elif self.losses != NULL:
                (<double *>self.losses)[row_begin + i] = loss
        self.loss_of[sums * self.n_heads + head] = total
        self.correct_of[sums * self.n_heads + head] = correct

    cdef void feature_piece(self, char *scratch, char *panel, Py_ssize_t block, Py_ssize_t at, Py_ssize_t n,
                            Py_ssize_t n_later, Py_ssize_t first, Py_ssize_t last,
                            const gradient_sink *sink) noexcept nogil:
        """The gradient of features first..last, summed over n rows at `at` of the block."""
        cdef const void **rows = <const void **>scratch + at
        cdef const char *dlogits = scratch + self.at_logits + at * self.size
        cdef const char *staged
        cdef Py_ssize_t stride, fetched
        if self.tiles != NULL:
            staged = self.staged(scratch, block, at, &stride)
            fetched = self.n_later_in_forward(n_later)
            if self.tiles.gradient(staged, stride, rows, n, rows + self.slot_rows + fetched, n_later - fetched,
                                   self.n_features, first, last, dlogits, self.ld, self.n_classes, self.scale, sink,
                                   panel):
                return
        self.kernels.gradient[self.source](
            rows, n, self.n_features, first, last, dlogits, self.ld, self.n_classes, self.scale, sink, panel)

    cdef void bias_piece(self, char *scratch, Py_ssize_t at, Py_ssize_t n, const gradient_sink *sink) noexcept nogil:
        """The gradient of the bias, summed over n rows at `at` of the block."""
        if not self.freezes_bias:
            self.kernels.bias_gradient(n, scratch + self.at_logits + at * self.size, self.ld, self.n_classes, sink)


def row_pass(X, W, b, double scale, *, y=None, order=None, sample_weight=None, Py_ssize_t batch_rows=0,
             double factor=1.0, gradient=None, sgd=None, bias_rate=None, logits=None, losses=None,
             predictions=None, Py_ssize_t first_class=0, heads=None, weight_of_head=None, int n_threads=1):
    """Pass over the rows of X (in `order`) once; return (sum of losses, number predicted right).

    X (n_stored, n_features) uint8, float16, float32, float64, any strides; W (n_classes, n_features) and
    b (n_classes,) contiguous, float32 or float64. What is given is filled or updated in place:
    logits (n, any number of classes), from `first_class` on; with y (n_stored,) int64 in range: losses (n,);
    predictions (n,) int64;
    gradient = (dW, db), scaled by `factor`; sgd = (learning_rate, momentum, nesterov, weight_decay, vW, vb)
    updates W and b after every `batch_rows` rows with the gradient of their mean loss; b at its own rate if
    `bias_rate` is given; where that is 0, b and vb keep their bits, whatever the gradient is.

    heads: so many problems over the same rows, their classes side by side in W, b and the gradient; what is
    returned are then lists, an item per head. sample_weight may be (m, n_stored) with one of its rows for each
    head, as weight_of_head (heads,) int64 says. Where X, W and the logits are finite, every head has the bits
    that it would have alone.
    """
    cdef RowPass p = RowPass()
    cdef bint updates = sgd is not None
    p.updates, p.has_gradient = updates, updates or gradient is not None
    p.take_data(X, y, order)
    p.n_classes = len(b)
    p.n_heads = 1 if heads is None else heads
    if p.n_heads < 1 or p.n_classes % p.n_heads != 0 or p.n_heads > 1 and (
            y is None or losses is not None or predictions is not None):
        raise ValueError(f"heads is {heads}: expected a divisor of {p.n_classes}, labels, no results by row")
    if sample_weight is not None:
        p.take_weights(sample_weight, weight_of_head, heads is not None)
    if p.n_features > PY_SSIZE_T_MAX // 64 // max(p.n_classes, 1):
        raise ValueError(f"{p.n_features} features of {p.n_classes} classes: too many")
    cdef Py_ssize_t n_parameters = p.n_classes * p.n_features
    cdef char kind = View(b, PyBUF_STRIDES).kind()
    p.kernels = &isa.f64 if kind == c"d" else &isa.f32
    p.size = 8 if kind == c"d" else 4
    if kind != c"d" and kind != c"f":
        raise TypeError("b: expected float32 or float64")
    if p.n_classes == 0 or (p.has_gradient and y is None) or (losses is not None and y is None):
        raise ValueError("expected at least one class, and labels where there is a loss")
    p.W, p.b = p.take(W, n_parameters, kind, updates, "W"), p.take(b, p.n_classes, kind, updates, "b")
    p.scale, p.factor = scale, factor
    if logits is not None:
        _, p.logits_stride = logits.shape
        if not 0 <= first_class <= p.logits_stride - p.n_classes:
            raise ValueError(f"logits: expected {first_class} + {p.n_classes} classes, got {p.logits_stride}")
        p.logits = <char *>p.take(logits, p.n_rows * p.logits_stride, kind, True, "logits") + first_class * p.size
    if losses is not None:
        p.losses = <char *>p.take(losses, p.n_rows, kind, True, "losses")
    if predictions is not None:
        p.predictions = <int64_t *>p.take(predictions, p.n_rows, INT64, True, "predictions")
    if gradient is not None:
        dW, db = gradient
        p.W_sink.gradient = p.take(dW, n_parameters, kind, True, "dW")
        p.b_sink.gradient = p.take(db, p.n_classes, kind, True, "db")
    if updates:
        p.W_sink.W, p.b_sink.W = <void *>p.W, <void *>p.b
        learning_rate, momentum, nesterov, weight_decay, W_velocity, b_velocity = sgd
        p.W_sink.learning_rate = learning_rate
        p.b_sink.learning_rate = learning_rate if bias_rate is None else bias_rate
        p.freezes_bias = p.b_sink.learning_rate == 0.0
        p.W_sink.momentum = p.b_sink.momentum = momentum
        p.W_sink.nesterov = p.b_sink.nesterov = nesterov
        p.W_sink.weight_decay = weight_decay
        if W_velocity is not None:
            p.W_sink.velocity = p.take(W_velocity, n_parameters, kind, True, "velocity of W")
            p.b_sink.velocity = p.take(b_velocity, p.n_classes, kind, True, "velocity of b")
    if p.n_rows == 0 and gradient is not None:
        memset(p.W_sink.gradient, 0, n_parameters * p.size)
        memset(p.b_sink.gradient, 0, p.n_classes * p.size)
    p.plan(batch_rows, n_threads)
    p.allocate()
    p.run()
    p.scratch = p.panel_block = p.partial = None   # a helper that is slow to leave holds p while the next pass begins
    cdef Py_ssize_t i
    cdef list losses_of_heads = [0.0] * p.n_heads, correct_of_heads = [0] * p.n_heads
    for i in range(p.n_sums()):
        losses_of_heads[i % p.n_heads] += p.loss_of[i]
        correct_of_heads[i % p.n_heads] += p.correct_of[i]
    return (losses_of_heads[0], correct_of_heads[0]) if heads is None else (losses_of_heads, correct_of_heads)


def linear_gradient(X, dlogits, double scale, dW, db):
    """dW[k, j] = scale * sum_i dlogits[k, i] X[i, j] and db[k] = sum_i dlogits[k, i], on this thread.

    dlogits is class-major (n_classes, n_samples), as everything here contiguous and of one float type.
    """
    cdef RowPass p = RowPass()
    p.take_data(X, None, None)
    cdef char kind = View(db, PyBUF_STRIDES).kind()
    cdef const kernel_table *kernels = &isa.f64 if kind == c"d" else &isa.f32
    p.n_classes = len(db)
    if p.packed or kind != c"d" and kind != c"f":
        raise TypeError("expected contiguous native rows of X, and float32 or float64 db")
    cdef const void *d = p.take(dlogits, p.n_classes * p.n_rows, kind, False, "dlogits")
    p.W_sink.gradient = p.take(dW, p.n_classes * p.n_features, kind, True, "dW")
    p.b_sink.gradient = p.take(db, p.n_classes, kind, True, "db")
    p.W_sink.first = p.b_sink.first = p.W_sink.last = p.b_sink.last = 1
    cdef Scratch scratch = Scratch()
    cdef Scratch panel = Scratch()
    cdef const void **rows = <const void **>scratch.take(p.n_rows * sizeof(void *))
    cdef void *panel_block = panel.take(p.n_rows * GRADIENT_PANEL * sizeof(double))
    cdef Py_ssize_t i
    with nogil:
        for i in range(p.n_rows):
            rows[i] = p.row(i)
        kernels.gradient[p.source](rows, p.n_rows, p.n_features, 0, p.n_features, d, p.n_rows, p.n_classes, scale,
                                   &p.W_sink, panel_block)
        kernels.bias_gradient(p.n_rows, d, p.n_rows, p.n_classes, &p.b_sink)
