# Rows of X: what is asked of a pass, and how it is cut into work before any thread starts. Included by _kernels.pyx.

cdef enum:
    LOSS_ROWS = 32           # losses of so many rows are summed before their sum joins a total
    BLOCK_BYTES = 1 << 20    # of a block's dlogits, and of its X: so that both stay in L2
    # where gradients are small, and threads sum partial ones:
    OWN_BYTES = 1 << 19      # a head's gradient is small up to so many bytes
    PARTIALS = 8             # at most: with so few classes, more threads than that find no bandwidth
    MOST_LEAVES = 8          # of a round: threads wait for each other after it, and 64 parts serve any number alike
    LEAVES_BYTES = 1 << 21   # of the partials of a round, where it has several leaves: so that they stay in L2
    LEAST_PART = 128         # rows of a part, at least,
    MOST_PART = 1024         # and at most
    # where floats multiply: enough work for a piece, enough pieces for a team
    BLOCK_ROWS = 1024        # of a block, at most
    FEW_ROWS = 32            # of a row piece where W stays in L2,
    MANY_ROWS = 128          # and where every piece must read W anew
    PIECE_FEATURES = 64      # of a sum piece
    FEWEST_FEATURES = 128    # of dot products: with more, it costs next to nothing to add up their lanes
    SPILLED_BYTES = 1 << 24  # of dlogits that L2 cannot hold: smaller blocks would read W and its gradient more often
    # where W and dlogits are packed:
    PACKED_BLOCK_ROWS = 512  # of a block, at most, before threads share it
    PACKED_BLOCK_BYTES = 1 << 22   # of its X, and of the dlogits of a shared block
    PACKED_PIECE_ROWS = 256  # of a thread in a shared block: W may have to be packed again for each piece
    PIXEL_ROWS = 256         # of a block of pixels, if they are shuffled (amx copies them) or have many classes
    MOST_UNEVEN = 1024       # the largest weight over the smallest: the digits of all dlogits have one unit


ctypedef struct row_data:                   # the rows of a pass, and what belongs to each
    const char *X
    const char **at                         # where each row lies, if they are in several arrays; NULL: as X says
    stored_type stored
    Py_ssize_t n_rows, n_features
    Py_ssize_t n_stored                     # rows of the array, of which `order` may pick some
    Py_ssize_t row_stride, column_stride    # of the array, in bytes
    Py_ssize_t item_size, row_bytes         # of a number, and of all numbers of a row
    bint copied                             # kernels cannot read the rows: they are copied for as long as a block lasts
    bint reversed                           # numbers are stored in the other byte order
    const char *y                           # labels of the n_stored rows, or NULL
    char y_kind                             # their type: B, H, I of 1, 2, 4 bytes, or INT64
    Py_ssize_t y_size
    const int64_t *order                    # which rows the pass takes, in this order; NULL: all as they lie
    const double *weight                    # of the n_stored rows: one row of weights, or several; NULL: all are 1
    const int64_t *weight_of_head           # which row of weights is a head's; NULL: all heads have the first
    bint uneven_weights                     # the largest is more than MOST_UNEVEN times the smallest


cdef inline const char *where_lies(const row_data *rows, Py_ssize_t stored) noexcept nogil:
    return rows.at[stored] if rows.at != NULL else rows.X + stored * rows.row_stride


cdef bint lie_in_order(const row_data *rows, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Do n rows and the one after them lie in one array?"""
    cdef Py_ssize_t i
    for i in range(first, first + n if rows.at != NULL else first):
        if rows.at[i + 1] - rows.at[i] != rows.row_stride:
            return False
    return True


ctypedef struct row_sink:                   # where results go: NULL where one is not wanted
    char *logits                            # row by row
    Py_ssize_t logits_stride                # floats from one row to the next
    char *losses
    int64_t *predictions
    bint has_gradient                       # a gradient is stored, or it updates W and b
    bint updates                            # after each batch, by SGD
    bint freezes_bias                       # nothing is computed for b
    double factor                           # of a gradient that is stored
    gradient_sink W, b


ctypedef struct sum_tree:                   # sums of leaves, added up pairwise; csoftmax/engine/units.py tells the rule
    double *nodes                           # NULL: none; by levels
    Py_ssize_t n_levels, stride             # in doubles from one level to the next
    int64_t first                           # the number of the first leaf of this pass


ctypedef struct block_layout:               # how scratch is laid out: offsets in bytes
    # a block begins with pointers to its rows and to those that come next; then come
    Py_ssize_t logits, copies, staged, labels, predictions, factors, losses
    Py_ssize_t block_bytes                  # of all that
    Py_ssize_t rows                         # that it has room for: a multiple of 32
    Py_ssize_t ld                           # floats from one class's logits to the next class's
    # a thread's panel begins with what the products need; then come
    Py_ssize_t weights                      # packed
    Py_ssize_t panel_bytes                  # of all that


cdef class RowPlan(Team):
    """What is asked of a pass, which way it multiplies, and how its batches are cut into parts of rows.

    Where a head's gradient is small, a part is one row piece: a thread takes its rows from logits to gradient, one
    block after the other. The gradient joins a partial gradient; when all parts of a batch are done, sum pieces add up
    the partials, each for some of the parameters, and store the sum or apply it to W.

    With a tree, a batch has some leaves, each with partials of its own, whose sum joins the tree. The last leaf of the
    pass has up to twice as many rows.

    Where gradients are large, a part is one block that all threads share: row pieces end with dlogits; sum pieces,
    which wait for them, sum the gradient of some features over all rows of the block, and store it or apply it to W.
    Without a gradient there are only row pieces, and nobody waits.
    """
    cdef const kernel_table *kernels
    cdef list views                             # the caller's arrays, which must outlive the pass
    cdef row_data rows
    cdef row_sink sink
    cdef linear_map map                         # of all heads, whose classes lie side by side
    cdef Py_ssize_t n_heads, size               # size: bytes of a float of the compute type
    cdef const way_of_multiplying *floats
    cdef const way_of_multiplying *way          # what is tried first; it may be floats
    cdef bint few_classes                       # few enough for dot products
    cdef Py_ssize_t batch_rows, n_batches
    cdef sum_tree tree
    cdef Py_ssize_t leaf_rows, n_leaves         # 0 without a tree: the sums of a batch are one leaf
    cdef Py_ssize_t leaves_per_batch, parts_per_leaf
    cdef Py_ssize_t part_rows, parts_per_batch
    cdef Py_ssize_t more_parts                  # of the last batch, whose last leaf has more rows
    cdef Py_ssize_t block_rows
    cdef Py_ssize_t piece_rows                  # rows whose logits are computed at once
    cdef Py_ssize_t piece_features              # of a sum piece of a shared block
    cdef Py_ssize_t sum_rows                    # rows of a block that a gradient sums before they join a total
    cdef Py_ssize_t n_partials                  # of a leaf; 0: threads share blocks
    cdef Py_ssize_t n_row_pieces, n_sum_pieces  # of a round: of a batch, or of a shared block
    cdef Py_ssize_t more_row_pieces             # of the last round
    cdef block_layout at

    cdef void plan(self, Py_ssize_t batch_rows, int n_threads) noexcept:
        """Decide all sizes. What shapes a sum (parts, sum_rows) depends on neither n_threads nor n_heads.

        What shapes a leaf depends on its own rows alone: with more rows than leaf_rows it is cut as with just as many.
        """
        self.batch_rows = max(1, min(batch_rows if batch_rows > 0 else self.rows.n_rows, self.rows.n_rows))
        self.n_leaves, self.leaves_per_batch, self.more_parts, self.more_row_pieces = 0, 1, 0, 0
        if self.leaf_rows > 0:
            self.n_leaves = max(1, self.rows.n_rows // self.leaf_rows)
            if self.n_leaves > 1:
                self.batch_rows = self.leaf_rows
        self.choose_way()
        self.n_partials = 0
        if self.sink.has_gradient and self.rows.n_features * self.head_bytes() <= OWN_BYTES:
            self.plan_parts(n_threads)
        else:
            self.plan_shared_blocks(n_threads)
        self.lay_out()

    cdef Py_ssize_t head_classes(self) noexcept nogil:
        return self.map.n_classes // self.n_heads

    cdef Py_ssize_t head_bytes(self) noexcept nogil:
        """Bytes of a row's logits, or of a feature's weights, of one head."""
        return self.head_classes() * self.size

    cdef Py_ssize_t n_parts(self) noexcept nogil:
        return self.n_batches * self.parts_per_batch + self.more_parts

    cdef Py_ssize_t batch_of(self, Py_ssize_t part) noexcept nogil:
        return min(part // self.parts_per_batch, self.n_batches - 1)

    cdef Py_ssize_t batch_end(self, Py_ssize_t batch) noexcept nogil:
        return self.rows.n_rows if batch == self.n_batches - 1 else (batch + 1) * self.batch_rows

    cdef Py_ssize_t leaves_of(self, Py_ssize_t batch) noexcept nogil:
        """How many leaves a batch has."""
        if self.n_leaves == 0 or batch < self.n_batches - 1:
            return self.leaves_per_batch
        return self.n_leaves - batch * self.leaves_per_batch

    cdef void cut_batches(self) noexcept:
        """Set the number of batches, and of parts of the last one."""
        cdef Py_ssize_t n_last
        self.n_batches = ceil_div(self.rows.n_rows, self.batch_rows)
        if self.n_leaves > 0:
            self.n_batches = ceil_div(self.n_leaves, self.leaves_per_batch)
        self.parts_per_leaf = ceil_div(self.batch_rows // self.leaves_per_batch, self.part_rows)
        self.parts_per_batch = self.leaves_per_batch * self.parts_per_leaf
        n_last = ceil_div(self.rows.n_rows - (self.n_batches - 1) * self.batch_rows, self.part_rows)
        self.more_parts = max(0, n_last - self.parts_per_batch)

    cdef Py_ssize_t n_sums(self) noexcept nogil:
        return self.n_parts() * ceil_div(self.part_rows, LOSS_ROWS) * self.n_heads

    cdef void choose_way(self) noexcept:
        """The faster way where its limits allow, or floats. Each head goes the way that it would go alone."""
        cdef const way_of_multiplying *faster = self.kernels.faster[self.rows.stored]
        self.way = self.floats = self.kernels.floats[self.rows.stored]
        if faster != NULL and (
                faster.fewest_features <= self.rows.n_features <= faster.most_features
                and self.batch_rows >= faster.fewest_rows and self.head_classes() >= faster.fewest_classes
                and not (faster.even_weights and self.rows.uneven_weights)):
            self.way = faster
        self.few_classes = (self.head_classes() <= self.kernels.dot_classes
                            and self.rows.n_features >= FEWEST_FEATURES)

    cdef void plan_parts(self, int n_threads) noexcept:
        """Gradients are small: a round is a batch, its row pieces are parts."""
        cdef Py_ssize_t rows = round_up(ceil_div(self.batch_rows, PARTIALS), LOSS_ROWS)
        rows = max(LEAST_PART, min(rows, MOST_PART))
        self.part_rows = rows if rows <= GRADIENT_CHUNK else round_up(rows, GRADIENT_CHUNK)
        self.n_partials = min(PARTIALS, ceil_div(self.batch_rows, self.part_rows))
        self.sink.W.last = self.sink.b.last = True
        self.plan_block()
        if not self.way.packs:
            self.block_rows = min(self.block_rows, GRADIENT_CHUNK, self.part_rows)
        else:
            rows = PACKED_BLOCK_ROWS
            if self.rows.stored == STORED_U8 and (
                    self.rows.order != NULL or rows * self.head_bytes() > BLOCK_BYTES):
                rows = PIXEL_ROWS
            self.block_rows = min(self.block_rows, self.part_rows, rows)
            self.piece_rows = self.block_rows
        self.sum_rows = self.block_rows
        if self.n_leaves > 1:
            rows = LEAVES_BYTES // (self.n_partials * (self.rows.n_features + 1) * self.map.n_classes * self.size)
            self.leaves_per_batch = max(1, min(rows, MOST_LEAVES, self.n_leaves))
            self.batch_rows *= self.leaves_per_batch
        self.cut_batches()
        self.n_threads = threads_that_pay(
            min(n_threads, self.n_partials), self.parts_per_batch, self.parts_per_batch, self.seconds(),
            2 * self.n_batches)
        self.n_row_pieces, self.more_row_pieces = self.parts_per_batch, self.more_parts
        self.n_sum_pieces = self.n_threads if self.n_partials > 1 else 0
        self.n_tickets = self.n_batches * (self.n_row_pieces + self.n_sum_pieces) + self.more_parts

    cdef void plan_shared_blocks(self, int n_threads) noexcept:
        """Gradients are large, or none is wanted: a round is a block."""
        cdef Py_ssize_t rows = self.rows.n_rows, at_once
        self.plan_block()
        self.sum_rows = self.block_rows
        self.n_threads = self.threads_of_blocks(n_threads)
        if self.way.packs:   # no sum depends on the pieces, so they are as large as they can be
            if self.sink.has_gradient:
                rows = min(self.n_threads * PACKED_PIECE_ROWS, self.most_block_rows())
                rows = self.block_rows = self.sum_rows * max(1, rows // self.sum_rows)
            self.piece_rows = min(PACKED_BLOCK_ROWS, round_up(ceil_div(max(rows, 1), self.n_threads), LOSS_ROWS))
            self.piece_features = round_up(ceil_div(self.rows.n_features, self.n_threads), PIECE_FEATURES)
        if not self.sink.has_gradient:
            self.block_rows = self.batch_rows = self.piece_rows
        self.part_rows = self.block_rows
        self.cut_batches()
        self.n_row_pieces = ceil_div(self.block_rows, self.piece_rows)
        self.n_sum_pieces = 0
        if self.sink.has_gradient:
            self.n_sum_pieces = max(1, ceil_div(self.rows.n_features, self.piece_features))
        self.n_tickets = self.n_parts() * (self.n_row_pieces + self.n_sum_pieces)
        at_once = max(self.n_row_pieces, self.n_sum_pieces) if self.sink.has_gradient else self.n_tickets
        self.n_threads = max(1, min(self.n_threads, at_once))

    cdef void plan_block(self) noexcept:
        """Rows of a block, before threads count, and of pieces."""
        cdef Py_ssize_t rows, least, fitting, alone
        if self.way.packs:
            fitting = PACKED_BLOCK_BYTES // self.rows.row_bytes // 64 * 64
            self.block_rows = min(self.batch_rows, max(64, min(fitting, PACKED_BLOCK_ROWS)))
            return
        fitting = BLOCK_BYTES // max(self.map.n_classes * self.size, self.rows.row_bytes)
        rows = min(fitting, BLOCK_ROWS) // GRADIENT_CHUNK * GRADIENT_CHUNK
        if rows == 0:
            alone = BLOCK_BYTES // max(self.head_bytes(), self.rows.row_bytes)
            if self.head_bytes() > self.rows.row_bytes:
                alone = max(SPILLED_BYTES, self.rows.n_features * self.head_bytes() // 4) // self.head_bytes()
            # Smaller blocks cost more sums, and a block that L2 cannot hold is read twice from memory (bench --only
            # growth/n_features).
            least = FEW_ROWS if self.n_partials > 0 and FEW_ROWS * self.rows.row_bytes > BLOCK_BYTES else 2 * FEW_ROWS
            rows = min(GRADIENT_CHUNK, max(least, alone // FEW_ROWS * FEW_ROWS))
        self.block_rows = min(self.batch_rows, rows)
        self.piece_rows = (MANY_ROWS if self.map.n_classes * self.rows.n_features * self.size > 1 << 18 else FEW_ROWS)
        self.piece_rows = max(FEW_ROWS, min(self.piece_rows, rows // 2 // FEW_ROWS * FEW_ROWS))
        self.piece_features = PIECE_FEATURES

    cdef Py_ssize_t most_block_rows(self) noexcept:
        """Of a block that threads share, where W is packed."""
        return min(self.batch_rows, PACKED_BLOCK_BYTES // (self.map.n_classes * self.size))

    cdef double seconds(self) noexcept:
        """What the pass costs one thread."""
        cdef double n_products = 4.0 if self.sink.has_gradient else 2.0
        cdef double n_logits = self.map.n_classes
        cdef double products = n_products * self.rows.n_features * n_logits / FLOPS / self.way.speed
        return self.rows.n_rows * ((products + LOGIT * n_logits) * self.size / 4 + self.rows.row_bytes / BANDWIDTH)

    cdef int threads_of_blocks(self, int n_threads) noexcept:
        """How many threads pay where blocks are shared, if pieces are as small as they can be."""
        cdef Py_ssize_t rows, piece_rows = LOSS_ROWS if self.way.packs else self.piece_rows, n_pieces, n_blocks
        if not self.sink.has_gradient:
            n_pieces = ceil_div(self.rows.n_rows, piece_rows)
            return threads_that_pay(n_threads, n_pieces, n_pieces, self.seconds(), 0)
        n_blocks = ceil_div(self.rows.n_rows, self.batch_rows) * ceil_div(self.batch_rows, self.block_rows)
        rows = max(self.block_rows, self.most_block_rows()) if self.way.packs else self.block_rows
        n_pieces = max(1, ceil_div(self.rows.n_features, PIECE_FEATURES))
        return threads_that_pay(n_threads, ceil_div(rows, piece_rows), n_pieces, self.seconds(), 2 * n_blocks)

    cdef void lay_out(self) noexcept:
        """Offsets and sizes of a block's scratch and of a thread's panel."""
        cdef Py_ssize_t at, rows = round_up(self.block_rows, 32), n_features = self.rows.n_features
        cdef Py_ssize_t n_classes = self.map.n_classes, forward, gradient = 0
        self.at.rows = rows
        self.at.ld = rows + 32
        if self.at.ld * self.size % 4096 == 0:   # classes that far apart would share a set of the cache
            self.at.ld += 32
        self.at.logits = round_up(2 * rows * sizeof(void *), 64)
        at = self.at.logits + round_up(n_classes, self.way.classes_at_once) * self.at.ld * self.size
        self.at.copies = round_up(at, 64)
        at = self.at.copies + (self.block_rows * self.rows.row_bytes if self.rows.copied else 0)
        self.at.staged = round_up(at, 64)
        self.at.labels = round_up(self.at.staged + rows * self.way.row_bytes(n_features), 64)
        self.at.predictions = self.at.labels + rows * sizeof(int64_t)
        self.at.factors = self.at.predictions + rows * sizeof(int64_t)
        self.at.losses = self.at.factors + rows * self.size
        self.at.block_bytes = round_up(self.at.losses + rows * self.size, 64)
        forward = max(self.floats.forward_bytes(self.piece_rows, n_features),
                      self.way.forward_bytes(self.piece_rows, n_features))
        if self.sink.has_gradient:
            gradient = max(self.floats.gradient_bytes(round_up(self.sum_rows, 32), n_classes),
                           self.way.gradient_bytes(self.sum_rows, n_classes))
        self.at.weights = round_up(max(forward, gradient), 64)
        self.at.panel_bytes = self.at.weights + self.way.weights_bytes(n_features, n_classes)
