# Rows of X: what happens to a batch, from rows to logits, losses, dlogits, gradient and update. Included by
# _kernels.pyx.

ctypedef struct thread_scratch:         # what a thread works in
    char *block                         # laid out as block_layout says; one for all threads where blocks are shared
    char *panel
    int thread


ctypedef struct piece_rows:             # rows that become dlogits at once: of a shared block, those of a row piece
    Py_ssize_t at, n                    # where they begin in the block, and how many there are
    Py_ssize_t first, later             # which row of the pass is their first; and the first of those that come next
    Py_ssize_t sums                     # the number of the first of their sums of LOSS_ROWS losses
    Py_ssize_t batch, batch_size


cdef inline int64_t label_at(const row_data *rows, Py_ssize_t stored) noexcept nogil:
    if rows.y_kind == c"B":
        return (<const uint8_t *>rows.y)[stored]
    if rows.y_kind == c"H":
        return (<const uint16_t *>rows.y)[stored]
    if rows.y_kind == c"I":
        return (<const uint32_t *>rows.y)[stored]
    return (<const int64_t *>rows.y)[stored]


cdef inline int level_of(int64_t leaf) noexcept nogil:
    """How many sums of the tree are whole with this leaf: the ones at the end of its number."""
    cdef int level = 0
    while leaf & 1:
        leaf >>= 1
        level += 1
    return level


ctypedef struct packed_weights:         # of a thread's panel
    Py_ssize_t batch                    # whose weights these are; 0 where nothing updates them, -1: none yet
    bint usable                         # 0: they could not be packed


cdef class RowPass(RowPlan):
    """One pass over rows of X, as planned."""
    cdef list memory
    cdef char *blocks                   # one per thread, or one that all share
    cdef char *panels                   # one per thread
    cdef packed_weights *packed         # one per thread
    cdef char *partials                 # each a gradient of W, then of b
    cdef Py_ssize_t partial_size        # in floats
    cdef int64_t *partial_is_at         # of each partial: the ticket of the part that joined it last
    cdef int64_t *claimed_parts         # of each part of a batch: in how many batches a thread has taken it
    cdef int64_t *claimed_sums          # of each sum piece: the same
    cdef const void *zeros              # a row that stands in for rows of weight 0
    cdef double *loss_of                # of each LOSS_ROWS rows: the sums of their losses, one for each head
    cdef int64_t *correct_of            # likewise: how many are predicted right

    cdef char *take(self, Py_ssize_t n_bytes, bint zeroed=True) except NULL:
        cdef Scratch scratch = Scratch()
        self.memory.append(scratch)
        return scratch.take(n_bytes, zeroed)

    cdef void allocate(self) except *:
        cdef bint shared = self.sink.has_gradient and self.n_partials == 0
        cdef Py_ssize_t n_weights = self.rows.n_features * self.map.n_classes
        cdef Py_ssize_t n_parameters = n_weights + self.map.n_classes
        cdef Py_ssize_t n_partials = self.n_partials * self.leaves_per_batch, n_counters = max(PARTIALS, n_partials)
        cdef int thread
        self.memory = []
        self.blocks = self.take(self.at.block_bytes * (1 if shared else self.n_threads))
        self.panels = self.take(self.at.panel_bytes * self.n_threads, zeroed=False)
        if self.rows.weight != NULL:
            self.zeros = self.take(self.rows.row_bytes)
        # in one piece: with three, a pass over one row took a third more instructions
        self.loss_of = <double *>self.take(
            self.n_sums() * (sizeof(double) + sizeof(int64_t)) + self.n_threads * sizeof(packed_weights))
        self.correct_of = <int64_t *>(self.loss_of + self.n_sums())
        self.packed = <packed_weights *>(self.correct_of + self.n_sums())
        for thread in range(self.n_threads):
            self.packed[thread].batch = -1
        if self.n_partials > 0:
            self.partial_size = round_up(n_parameters, 16)
            self.partials = self.take(n_partials * self.partial_size * self.size, zeroed=False)
            self.claimed_parts = <int64_t *>self.take(3 * n_counters * sizeof(int64_t))
            self.claimed_sums = self.claimed_parts + n_counters
            self.partial_is_at = self.claimed_sums + n_counters
            memset(self.partial_is_at, -1, n_counters * sizeof(int64_t))
        elif self.sink.updates and self.batch_rows > self.sum_rows:  # the sums of all blocks so far
            self.sink.W.gradient = self.take(n_parameters * self.size)
            self.sink.b.gradient = <char *>self.sink.W.gradient + n_weights * self.size

    # ---- tickets

    cdef bint work(self, int thread, double until) noexcept nogil:
        if self.way.open == NULL:
            return Team.work(self, thread, until)
        self.way.open()
        cdef bint finished = Team.work(self, thread, until)
        self.way.close()
        return finished

    cdef int64_t awaits(self, int64_t ticket) noexcept nogil:
        """A row piece waits for the round before, a sum piece for its round's row pieces. No gradient: none waits."""
        cdef Py_ssize_t which, piece, n_row_pieces
        if not self.sink.has_gradient:
            return 0
        which = self.round_of(ticket, &piece, &n_row_pieces)
        return ticket - piece + (n_row_pieces if piece >= n_row_pieces else 0)

    cdef inline Py_ssize_t round_of(self, int64_t ticket, Py_ssize_t *piece, Py_ssize_t *n_row_pieces) noexcept nogil:
        """The round of a ticket, its number in it, and how many row pieces come first there."""
        cdef Py_ssize_t size = self.n_row_pieces + self.n_sum_pieces
        cdef Py_ssize_t n_rounds = (self.n_tickets - self.more_row_pieces) // size
        cdef Py_ssize_t which = min(ticket // size, n_rounds - 1)
        piece[0] = ticket - which * size
        n_row_pieces[0] = self.n_row_pieces + (self.more_row_pieces if which == n_rounds - 1 else 0)
        return which

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        cdef thread_scratch s
        s.block = self.blocks
        if not self.sink.has_gradient or self.n_partials > 0:
            s.block += thread * self.at.block_bytes
        s.panel = self.panels + thread * self.at.panel_bytes
        s.thread = thread
        cdef Py_ssize_t piece, n_row_pieces, which = self.round_of(ticket, &piece, &n_row_pieces)
        if self.n_partials == 0 and piece < n_row_pieces:
            self.shared_rows(&s, which, piece)
        elif self.n_partials == 0:
            self.shared_sum(&s, which, piece - n_row_pieces)
        elif piece < n_row_pieces:
            self.own_part(&s, which, piece, ticket)
        else:
            self.add_partials(which, self.claim(self.claimed_sums, which, self.n_sum_pieces, thread))

    cdef Py_ssize_t claim(self, int64_t *counters, int64_t batch, Py_ssize_t n, int thread) noexcept nogil:
        """Take one of n pieces of the batch: the one that this thread had in the last batch, or the next free one."""
        cdef Py_ssize_t i = thread * n // self.n_threads
        while not claimed(&counters[i], batch):
            i = i + 1 if i + 1 < n else 0
        return i

    cdef void part_span(self, Py_ssize_t part, Py_ssize_t *begin, Py_ssize_t *end,
                        Py_ssize_t *batch_size) noexcept nogil:
        """Rows begin..end of a part, and how many rows its batch has."""
        cdef Py_ssize_t batch = self.batch_of(part), batch_end = self.batch_end(batch)
        batch_size[0] = batch_end - batch * self.batch_rows
        begin[0] = min(batch * self.batch_rows + (part - batch * self.parts_per_batch) * self.part_rows, batch_end)
        end[0] = min(begin[0] + self.part_rows, batch_end)

    # ---- parts that one thread takes from rows to gradient

    cdef void own_part(self, const thread_scratch *s, Py_ssize_t batch, Py_ssize_t part, int64_t ticket) noexcept nogil:
        cdef Py_ssize_t leaf, in_leaf, partial
        if self.n_leaves == 0 and self.parts_per_batch <= self.n_partials:
            part = self.claim(self.claimed_parts, batch, self.parts_per_batch, s.thread)
        leaf = min(part // self.parts_per_leaf, self.leaves_of(batch) - 1)
        in_leaf = part - leaf * self.parts_per_leaf
        partial = leaf * self.n_partials + in_leaf % self.n_partials
        if in_leaf >= self.n_partials and not wait_for(
                &self.office, &self.partial_is_at[partial], ticket - self.n_partials):
            return
        self.part_to_partial(
            s, batch, part, in_leaf < self.n_partials, self.partials + partial * self.partial_size * self.size)
        set_counter(&self.partial_is_at[partial], ticket)

    cdef void part_to_partial(self, const thread_scratch *s, Py_ssize_t batch, Py_ssize_t part, bint is_first,
                              char *partial) noexcept nogil:
        """From rows to gradient, block by block. With one part a batch, the last block ends in the caller's sink."""
        cdef gradient_sink W_sink = self.sink.W, b_sink = self.sink.b
        cdef Py_ssize_t begin, end, block, next_block, n, i, j
        cdef Py_ssize_t sums = (batch * self.parts_per_batch + part) * ceil_div(self.part_rows, LOSS_ROWS)
        cdef piece_rows p
        p.batch = batch
        if self.n_partials > 1:
            W_sink.W = b_sink.W = NULL
        if self.n_partials > 1 or self.sink.updates:
            W_sink.gradient = partial
            b_sink.gradient = partial + self.rows.n_features * self.map.n_classes * self.size
        self.part_span(batch * self.parts_per_batch + part, &begin, &end, &p.batch_size)
        for i in range(ceil_div(end - begin, self.block_rows)):
            block = begin + i * self.block_rows
            n = min(self.block_rows, end - block)
            next_block = block + n if block + n < end else begin + self.batch_rows
            if self.n_leaves > 0 and block + n == end:   # who takes its rows in the next batch is not known
                next_block = self.rows.n_rows
            for j in range(ceil_div(n, self.piece_rows)):
                p.at = j * self.piece_rows
                p.n = min(self.piece_rows, n - p.at)
                p.first = block + p.at
                p.later = p.first + self.piece_rows if p.at + self.piece_rows < n else next_block
                p.sums = sums + (p.first - begin) // LOSS_ROWS
                self.row_piece(s, &p)
            W_sink.first = b_sink.first = block == begin and is_first
            W_sink.last = b_sink.last = block + n == end and self.n_partials == 1
            self.sum_features(s, block, 0, n, self.n_later(next_block, n), 0, self.rows.n_features, &W_sink)
            self.sum_bias(s, 0, n, &b_sink)

    cdef void add_partials(self, Py_ssize_t batch, Py_ssize_t piece) noexcept nogil:
        """Add up the partials for some of the parameters; the sum is stored, applied to W, or joins the tree."""
        cdef Py_ssize_t n = self.rows.n_features * self.map.n_classes, leaf
        cdef Py_ssize_t batch_size = self.batch_end(batch) - batch * self.batch_rows
        cdef Py_ssize_t n_partials = min(self.n_partials, ceil_div(batch_size, self.part_rows))
        cdef Py_ssize_t size = round_up(ceil_div(n, self.n_sum_pieces), 64)
        cdef Py_ssize_t begin = min(piece * size, n), end = min((piece + 1) * size, n)
        cdef const char *partials = self.partials
        for leaf in range(self.leaves_of(batch)):
            self.kernels.add_partials(partials, self.partial_size, n_partials, begin, end, &self.sink.W)
            if piece == 0 and not self.sink.freezes_bias:
                self.kernels.add_partials(partials + n * self.size, self.partial_size, n_partials, 0,
                                          self.map.n_classes, &self.sink.b)
            self.join_tree(batch * self.leaves_per_batch + leaf, begin, end)
            if piece == 0:
                self.join_bias(batch * self.leaves_per_batch + leaf)
            partials += self.n_partials * self.partial_size * self.size

    # ---- the tree

    cdef void join_tree(self, Py_ssize_t leaf, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
        """Weights begin..end of a leaf's gradient, which is in the sink, join the tree."""
        if self.tree.nodes != NULL:
            self.kernels.join_tree(<char *>self.sink.W.gradient + begin * self.size, end - begin,
                                   self.tree.nodes + begin, self.tree.stride, level_of(self.tree.first + leaf))

    cdef void join_bias(self, Py_ssize_t leaf) noexcept nogil:
        if self.tree.nodes != NULL:
            self.kernels.join_tree(self.sink.b.gradient, self.map.n_classes,
                                   self.tree.nodes + self.rows.n_features * self.map.n_classes, self.tree.stride,
                                   level_of(self.tree.first + leaf))

    cdef void join_losses(self) noexcept:
        """The losses of each leaf join the tree; so does a gradient that no sum piece has stored."""
        cdef Py_ssize_t n_parameters = (self.rows.n_features + 1) * self.map.n_classes, leaf, h, i, end
        cdef Py_ssize_t sums_per_leaf = self.parts_per_leaf * ceil_div(self.part_rows, LOSS_ROWS)
        cdef double total
        for leaf in range(self.n_leaves):
            end = self.n_sums() // self.n_heads if leaf == self.n_leaves - 1 else (leaf + 1) * sums_per_leaf
            for h in range(self.n_heads):
                total = 0.0
                for i in range(leaf * sums_per_leaf, end):
                    total += self.loss_of[i * self.n_heads + h]
                isa.f64.join_tree(&total, 1, self.tree.nodes + n_parameters + h, self.tree.stride,
                                  level_of(self.tree.first + leaf))
        if self.n_partials == 1:
            self.join_tree(0, 0, self.rows.n_features * self.map.n_classes)
            self.join_bias(0)

    # ---- blocks that threads share

    cdef void shared_rows(self, const thread_scratch *s, Py_ssize_t part, Py_ssize_t piece) noexcept nogil:
        cdef piece_rows p
        cdef Py_ssize_t begin, end
        self.part_span(part, &begin, &end, &p.batch_size)
        p.at = piece * self.piece_rows
        p.n = min(end - begin - p.at, self.piece_rows)
        p.first, p.later = begin + p.at, end + p.at
        p.sums = part * ceil_div(self.part_rows, LOSS_ROWS) + p.at // LOSS_ROWS
        p.batch = part // self.parts_per_batch
        if p.n > 0:
            self.row_piece(s, &p)

    cdef void shared_sum(self, const thread_scratch *s, Py_ssize_t part, Py_ssize_t piece) noexcept nogil:
        cdef gradient_sink W_sink = self.sink.W, b_sink = self.sink.b
        cdef Py_ssize_t begin, end, batch_size, at, n, i, first = piece * self.piece_features
        self.part_span(part, &begin, &end, &batch_size)
        cdef Py_ssize_t batch = self.batch_of(part), k, n_features
        cdef bint last = end == self.batch_end(batch)
        for i in range(ceil_div(end - begin, self.sum_rows)):
            at = i * self.sum_rows
            n = min(self.sum_rows, end - begin - at)
            W_sink.first = b_sink.first = part == batch * self.parts_per_batch and at == 0
            W_sink.last = b_sink.last = last and begin + at + n == end
            self.sum_features(s, begin, at, n, self.n_later(end + at, n), first,
                              min(first + self.piece_features, self.rows.n_features), &W_sink)
            if first == 0:
                self.sum_bias(s, at, n, &b_sink)
        if last and self.tree.nodes != NULL:
            n_features = self.rows.n_features
            for k in range(self.map.n_classes):
                self.join_tree(batch, k * n_features + first,
                               k * n_features + min(first + self.piece_features, n_features))
            if first == 0:
                self.join_bias(batch)

    # ---- rows of a block

    cdef inline const char *row(self, Py_ssize_t i) noexcept nogil:
        return where_lies(&self.rows, self.stored_row(i))

    cdef inline Py_ssize_t stored_row(self, Py_ssize_t i) noexcept nogil:
        return self.rows.order[i] if self.rows.order != NULL else i

    cdef inline Py_ssize_t n_later(self, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
        """How many of the n rows from `first` on can be fetched ahead: no row that is copied, none after the last."""
        return 0 if self.rows.copied else max(0, min(n, self.rows.n_rows - first))

    cdef inline Py_ssize_t fetched_by_forward(self, Py_ssize_t n_later) noexcept nogil:
        """How many of the rows that come next the first product fetches; the others come with the second."""
        if self.way.forward_fetches == FETCH_ALL:
            return n_later
        return n_later // 2 if self.way.forward_fetches == FETCH_HALF and self.sink.has_gradient else 0

    cdef x_rows rows_at(self, char *block, Py_ssize_t block_first, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
        """n rows at `at` of a block that begins with row `block_first` of the pass, as kernels want them."""
        cdef x_rows x
        x.rows = <const void **>block + at
        x.later = x.rows + self.at.rows
        x.n_rows, x.n_later, x.n_features = n, 0, self.rows.n_features
        # Rows in order are multiplied where they lie, but for the last block: the last step of 64 bytes of a row may
        # go on into the next row.
        if (self.n_partials > 0 and self.rows.order == NULL and not self.rows.copied
                and self.rows.row_stride >= self.rows.row_bytes >= 64
                and block_first + self.at.rows < self.rows.n_rows
                and lie_in_order(&self.rows, block_first, self.at.rows)):
            x.staged, x.stride = <void *>self.row(block_first + at), self.rows.row_stride
        else:
            x.stride = self.way.row_bytes(self.rows.n_features)
            x.staged = block + self.at.staged + at * x.stride
        return x

    cdef void point_at_rows(self, char *block, const piece_rows *p, Py_ssize_t n_later) noexcept nogil:
        """List the rows, copied if need be, and those that come next: kernels fetch these while they compute."""
        cdef const void **rows = <const void **>block + p.at
        cdef const void **later = rows + self.at.rows
        cdef char *copy
        cdef Py_ssize_t i
        for i in range(p.n):
            rows[i] = self.row(p.first + i)
            if self.rows.copied:
                copy = block + self.at.copies + (p.at + i) * self.rows.row_bytes
                copy_items(copy, self.rows.item_size, <const char *>rows[i], self.rows.column_stride,
                           self.rows.n_features, self.rows.item_size, self.rows.reversed)
                rows[i] = copy
        for i in range(n_later):
            later[i] = self.row(p.later + i)
            if self.rows.order != NULL and self.rows.y != NULL:
                prefetch(self.rows.y + self.rows.order[p.later + i] * self.rows.y_size)

    # ---- the first product, and what follows from logits

    cdef void row_piece(self, const thread_scratch *s, const piece_rows *p) noexcept nogil:
        """Logits of some rows of a block, then losses and dlogits, or predictions."""
        cdef char *logits = s.block + self.at.logits + p.at * self.size
        cdef linear_map map = self.map
        cdef x_rows x = self.rows_at(s.block, p.first - p.at, p.at, p.n)
        cdef Py_ssize_t i, head, n_later = 0
        map.packed = self.weights_of(s, p.batch)
        # A batch of one row is summed as dot products: this depends on the batch, not on how it is cut into pieces.
        map.by_dots = self.few_classes or (p.batch_size if self.sink.has_gradient else self.rows.n_rows) == 1
        if map.packed == NULL or self.sink.has_gradient:   # otherwise nothing fetches the rows that come next
            n_later = self.n_later(p.later, p.n)
        self.point_at_rows(s.block, p, n_later)
        x.n_later = self.fetched_by_forward(n_later)
        if not self.way.forward(&x, &map, logits, self.at.ld, s.panel):
            x.n_later = n_later
            self.floats.forward(&x, &map, logits, self.at.ld, s.panel)
        if self.sink.logits != NULL:
            self.kernels.transpose(
                self.map.n_classes, p.n, logits, self.at.ld,
                self.sink.logits + p.first * self.sink.logits_stride * self.size, self.sink.logits_stride)
        if self.rows.y != NULL:
            for i in range(ceil_div(p.n, LOSS_ROWS)):
                for head in range(self.n_heads):
                    self.losses_of(s.block, p, i * LOSS_ROWS, min(p.n - i * LOSS_ROWS, LOSS_ROWS), head)
            if self.sink.predictions != NULL:
                memcpy(self.sink.predictions + p.first, s.block + self.at.predictions + p.at * sizeof(int64_t),
                       p.n * sizeof(int64_t))
        elif self.sink.predictions != NULL:
            self.kernels.argmax_columns(p.n, self.map.n_classes, logits, self.at.ld, self.sink.predictions + p.first)

    cdef const void *weights_of(self, const thread_scratch *s, Py_ssize_t batch) noexcept nogil:
        """W of this batch, packed in the thread's panel; NULL if it cannot be packed, or if forward reads W itself."""
        cdef packed_weights *packed = self.packed + s.thread
        cdef Py_ssize_t since = batch if self.sink.updates else 0
        if self.at.panel_bytes == self.at.weights:
            return NULL
        if packed.batch != since:
            packed.batch = since
            packed.usable = self.way.pack_weights(
                self.map.W, self.rows.n_features, self.map.n_classes, s.panel + self.at.weights)
        return s.panel + self.at.weights if packed.usable else NULL

    cdef inline double weight_of(self, Py_ssize_t head, Py_ssize_t stored) noexcept nogil:
        cdef Py_ssize_t row = self.rows.weight_of_head[head] if self.rows.weight_of_head != NULL else 0
        return self.rows.weight[row * self.rows.n_stored + stored] if self.rows.weight != NULL else 1.0

    cdef inline bint counts_for_none(self, Py_ssize_t stored) noexcept nogil:
        cdef Py_ssize_t head
        for head in range(self.n_heads):
            if self.weight_of(head, stored) != 0.0:
                return False
        return True

    cdef void losses_of(self, char *block, const piece_rows *p, Py_ssize_t done, Py_ssize_t n,
                        Py_ssize_t head) noexcept nogil:
        """Softmax, loss and dlogits of a head for n <= LOSS_ROWS rows of p, after the first `done` of them."""
        cdef Py_ssize_t i, stored, at = p.at + done, first = p.first + done
        cdef Py_ssize_t sums = (p.sums + done // LOSS_ROWS) * self.n_heads + head
        cdef int64_t *labels = <int64_t *>(block + self.at.labels) + at
        cdef int64_t *predictions = <int64_t *>(block + self.at.predictions) + at
        cdef char *factors = block + self.at.factors + at * self.size
        cdef char *losses = block + self.at.losses + at * self.size
        cdef double weight, loss, factor = 1.0 / p.batch_size if self.sink.updates else self.sink.factor
        for i in range(n):
            stored = self.stored_row(first + i)
            labels[i] = label_at(&self.rows, stored)
            weight = self.weight_of(head, stored)
            if self.size == 4:
                (<float *>factors)[i] = <float>(factor * weight)
            else:
                (<double *>factors)[i] = factor * weight
        self.kernels.cross_entropy_columns(
            n, self.head_classes(),
            block + self.at.logits + (head * self.head_classes() * self.at.ld + at) * self.size, self.at.ld, labels,
            factors if self.sink.has_gradient else NULL, losses, predictions)
        cdef double total = 0.0
        cdef int64_t correct = 0
        for i in range(n):
            weight = self.weight_of(head, self.stored_row(first + i))
            loss = (<float *>losses)[i] if self.size == 4 else (<double *>losses)[i]
            loss = weight * loss if weight != 0.0 else 0.0   # 0 even if the loss is NaN
            total += loss
            correct += predictions[i] == labels[i]
            # a NaN in a row that no head counts would reach the gradients: 0 * NaN is NaN
            if weight == 0.0 and head == 0 and self.counts_for_none(self.stored_row(first + i)):
                (<const void **>block)[at + i] = self.zeros
            if self.sink.losses != NULL and self.size == 4:
                (<float *>self.sink.losses)[first + i] = <float>loss
            elif self.sink.losses != NULL:
                (<double *>self.sink.losses)[first + i] = loss
        self.loss_of[sums] = total
        self.correct_of[sums] = correct

    # ---- the second product

    cdef void sum_features(self, const thread_scratch *s, Py_ssize_t block_first, Py_ssize_t at, Py_ssize_t n,
                           Py_ssize_t n_later, Py_ssize_t begin, Py_ssize_t end,
                           const gradient_sink *sink) noexcept nogil:
        """The gradient of features begin..end, summed over n rows at `at` of the block."""
        cdef const char *dlogits = s.block + self.at.logits + at * self.size
        cdef x_rows x = self.rows_at(s.block, block_first, at, n)
        cdef Py_ssize_t fetched = self.fetched_by_forward(n_later)
        x.later, x.n_later = x.later + fetched, n_later - fetched
        if not self.way.gradient(&x, begin, end, dlogits, self.at.ld, self.map.n_classes, sink, s.panel):
            self.floats.gradient(&x, begin, end, dlogits, self.at.ld, self.map.n_classes, sink, s.panel)

    cdef void sum_bias(self, const thread_scratch *s, Py_ssize_t at, Py_ssize_t n,
                       const gradient_sink *sink) noexcept nogil:
        if not self.sink.freezes_bias:
            self.kernels.bias_gradient(n, s.block + self.at.logits + at * self.size, self.at.ld, self.map.n_classes,
                                       sink)
