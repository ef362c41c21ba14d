# What happens to a batch: row blocks, minibatches, threads. What happens in registers is in simd/.
#
# Two kinds of pass, both cut into tickets that a team of threads takes in order:
#   RowPass      X -> logits -> softmax -> loss, predictions, dlogits -> gradient or SGD update
#   SoftmaxPass  logits -> softmax, log_softmax, or cross-entropy with its gradient
# Arrays arrive validated by functional.py and training.py; the checks here are only what memory safety
# needs. Arrays are kept by their buffers, so a helper thread that starts late finds them alive.
from _thread import start_new_thread

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer)
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy, memset

from simd cimport *

__all__ = [
    "active", "available", "elementary", "linear_gradient", "multiply_adds", "read_all", "row_pass", "softmax_pass",
    "use"]


# ---- instruction sets ---------------------------------------------------------------------------

cdef const instruction_set *found[4]
cdef int n_found = available_instruction_sets(found)
cdef const instruction_set *isa = found[0]


def available():
    """Names of the instruction sets that this machine can run, best first."""
    return tuple([found[i].name.decode() for i in range(n_found)])


def active():
    """Name of the instruction set in use."""
    return isa.name.decode()


def use(str name):
    """Switch to another instruction set; a call that is running in another thread keeps its own."""
    global isa
    for i in range(n_found):
        if found[i].name.decode() == name:
            isa = found[i]
            return
    raise ImportError(f"instruction set {name!r} is not available here, expected one of {available()}")


# ---- arrays -------------------------------------------------------------------------------------

cdef class View:
    """The buffer of an array, held as long as this object lives."""
    cdef Py_buffer buffer
    cdef bint held

    def __cinit__(self, array, int flags):
        PyObject_GetBuffer(array, &self.buffer, flags | PyBUF_FORMAT)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)

    cdef char kind(self) noexcept:
        """The type character of the struct module, without the byte order; 0 for anything longer."""
        cdef const char *text = self.buffer.format
        if text[0] in (c"@", c"=", c"<", c">"):
            text += 1
        return text[0] if text[0] != 0 and text[1] == 0 else 0

    cdef bint reversed(self) noexcept:
        return self.buffer.format[0] == c">"


cdef View contiguous(array, Py_ssize_t size, char kind, bint writable, str name):
    """A C-contiguous view of `size` items of this kind; the caller's promise, checked."""
    cdef View view = View(array, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
    if (view.kind() != kind or view.reversed() or view.buffer.len // max(view.buffer.itemsize, 1) != size
            or <uintptr_t>view.buffer.buf % max(view.buffer.itemsize, 1) != 0):
        raise ValueError(f"{name}: expected {size} contiguous items of kind {chr(kind)}")
    return view


cdef char INT64 = c"l" if sizeof(long) == 8 else c"q"


# ---- the team -----------------------------------------------------------------------------------

cdef class Team:
    """Pieces of work, taken as tickets by the calling thread and its helpers."""
    cdef ticket_office office
    cdef int64_t n_tickets
    cdef int n_threads

    cdef void piece(self, int64_t ticket, int slot) noexcept nogil:
        """Do the piece; `slot` is this thread's own scratch."""

    cdef int64_t awaits(self, int64_t ticket) noexcept nogil:
        """How many pieces must be finished before this one may start."""
        return 0

    cdef bint work(self, int slot, double until) noexcept nogil:
        """Take tickets until there are none (True) or time is up (False)."""
        cdef int64_t ticket
        while monotonic_seconds() < until:
            ticket = take_ticket(&self.office)
            if ticket >= self.n_tickets or not wait_for_done(&self.office, self.awaits(ticket)):
                return True
            self.piece(ticket, slot)
            finish_ticket(&self.office)
        return False

    def help(self, int slot):
        """A helper thread's whole life."""
        with nogil:
            if enter_office(&self.office):
                self.work(slot, 1e300)
            leave_office(&self.office)

    cdef int run(self) except -1:
        cdef int slot
        cdef bint finished = False
        try:
            # Not threading.Thread, whose start() waits until the new thread has been scheduled.
            for slot in range(1, self.n_threads):
                start_new_thread(self.help, (slot,))
        except RuntimeError:
            pass  # no more threads to be had: the same result, later
        try:
            while not finished:
                with nogil:
                    finished = self.work(0, monotonic_seconds() + 0.05)
                PyErr_CheckSignals()
            with nogil:
                wait_for_done(&self.office, self.n_tickets)
        except BaseException:
            close_office(&self.office)
            with nogil:
                wait_until_empty(&self.office)
            raise
        return 0


cdef class Scratch:
    """Memory aligned to cache lines, freed with its owner."""
    cdef void *block

    def __cinit__(self):
        self.block = NULL

    cdef char *take(self, Py_ssize_t n_bytes, bint zeroed=True) except NULL:
        self.block = PyMem_RawCalloc(n_bytes + 64, 1) if zeroed else PyMem_RawMalloc(n_bytes + 64)
        if self.block == NULL:
            raise MemoryError(f"no memory for {n_bytes} bytes of scratch")
        return <char *>((<uintptr_t>self.block + 63) & ~<uintptr_t>63)

    def __dealloc__(self):
        PyMem_RawFree(self.block)


cdef inline Py_ssize_t ceil_div(Py_ssize_t n, Py_ssize_t by) noexcept nogil:
    return (n + by - 1) // by


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t multiple) noexcept nogil:
    return ceil_div(n, multiple) * multiple


# ---- rows of X ----------------------------------------------------------------------------------

# Rows of a row piece, features of a gradient piece: enough work for a ticket, enough tickets for a team.
cdef enum:
    FEW_ROWS = 32            # of a row piece where W stays in the second-level cache,
    MANY_ROWS = 128          # and where it must be read anew for every piece
    PIECE_FEATURES = 64
    BLOCK_ROWS = 1024
    BLOCK_BYTES = 1 << 20    # of dlogits, and of X: so that both stay in the second-level cache


cdef class RowPass(Team):
    """One pass over rows of X in blocks; per block, row pieces, then feature pieces.

    Row pieces: logits, then loss and dlogits (or predictions) of piece_rows rows. Feature pieces: the
    gradient of PIECE_FEATURES features summed over the block, stored or applied to W. Without a
    gradient there are only row pieces, and nobody waits.
    """
    cdef const kernel_table *kernels
    cdef list views
    cdef int source
    cdef Py_ssize_t size                        # bytes of a float of the compute type
    cdef Py_ssize_t n_rows, n_features, n_classes
    cdef const char *X
    cdef Py_ssize_t row_stride, column_stride, item_size
    cdef bint packed, reversed
    cdef const void *W
    cdef const void *b
    cdef double scale, factor
    cdef const int64_t *y
    cdef const int64_t *order
    cdef const double *weight
    cdef gradient_sink W_sink, b_sink
    cdef bint has_gradient, updates
    cdef char *logits
    cdef char *losses
    cdef int64_t *predictions
    # the plan
    cdef Py_ssize_t batch_rows, block_rows, piece_rows, blocks_per_batch, n_row_pieces, n_feature_pieces
    # the scratch of a block (with a gradient) or of a thread (without)
    cdef Scratch scratch
    cdef char *slots
    cdef char *panels                           # one per thread
    cdef Py_ssize_t panel_bytes, slot_bytes, at_logits, at_packed, at_labels, at_factors, at_losses, at_predictions
    cdef Py_ssize_t slot_rows, ld, row_bytes
    cdef Scratch totals, partial, zero_row, panel_block
    cdef const void *zeros                      # a row that stands in for rows of weight 0
    cdef double *loss_of_piece
    cdef int64_t *correct_of_piece

    cdef void take_data(self, X, y, order, sample_weight) except *:
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
        cdef Py_ssize_t n_stored = view.buffer.shape[0]
        self.n_rows = n_stored if order is None else len(order)
        if order is not None:
            self.order = <const int64_t *>self.take(order, self.n_rows, INT64, False, "order")
        if y is not None:
            self.y = <const int64_t *>self.take(y, n_stored, INT64, False, "y")
        if sample_weight is not None:
            self.weight = <const double *>self.take(sample_weight, n_stored, c"d", False, "sample_weight")
        cdef Py_ssize_t i
        for i in range(self.n_rows if self.order != NULL else 0):
            if not 0 <= self.order[i] < n_stored:
                raise ValueError(f"order[{i}] is {self.order[i]}, expected 0..{n_stored - 1}")

    cdef void *take(self, array, Py_ssize_t size, char kind, bint writable, str name) except? NULL:
        cdef View view = contiguous(array, size, kind, writable, name)
        self.views.append(view)
        return view.buffer.buf

    cdef void plan(self, Py_ssize_t batch_rows, int n_threads) except *:
        """Cut the work. Nothing here that shapes a sum may depend on n_threads."""
        cdef Py_ssize_t fitting = BLOCK_BYTES // max(self.n_classes * self.size, self.row_bytes)
        self.piece_rows = MANY_ROWS if self.n_classes * self.n_features * self.size > 1 << 18 else FEW_ROWS
        self.piece_rows = max(FEW_ROWS, min(self.piece_rows, fitting // FEW_ROWS * FEW_ROWS))
        self.batch_rows = max(1, min(batch_rows if batch_rows > 0 else self.n_rows, self.n_rows))
        self.block_rows = min(self.batch_rows, max(
            2 * self.piece_rows, min(fitting, BLOCK_ROWS) // self.piece_rows * self.piece_rows))
        if not self.has_gradient:
            self.block_rows = self.batch_rows = self.piece_rows
        self.blocks_per_batch = ceil_div(self.batch_rows, self.block_rows)
        cdef Py_ssize_t n_batches = ceil_div(self.n_rows, self.batch_rows)
        cdef Py_ssize_t n_blocks = n_batches * self.blocks_per_batch
        self.n_row_pieces = ceil_div(self.block_rows, self.piece_rows)
        self.n_feature_pieces = 0
        if self.has_gradient:
            self.n_feature_pieces = max(1, ceil_div(self.n_features, PIECE_FEATURES))
        self.n_tickets = n_blocks * (self.n_row_pieces + self.n_feature_pieces)
        cdef double work = 2.0 * self.n_features * self.n_classes
        cdef Py_ssize_t rows_at_once = min(self.n_rows, self.block_rows if self.has_gradient else self.n_rows)
        # a thread pays from some 50 us of all its work and some 5 us of one phase
        self.n_threads = max(1, min(n_threads, 1 << 16, <int>min(work * self.n_rows / 4e6, 1e6),
                                    <int>min(work * rows_at_once / 4e5, 1e6)))

    cdef void allocate(self, Py_ssize_t n_blocks) except *:
        cdef Py_ssize_t at = 0, rows = self.block_rows
        self.slot_rows = round_up(rows, 32)
        self.ld = self.slot_rows + 32   # never a multiple of 4096 bytes, which would share a cache set
        at = 2 * self.slot_rows * sizeof(void *)   # rows, and those of the next block
        self.at_logits = round_up(at, 64)
        at = self.at_logits + self.n_classes * self.ld * self.size
        self.at_packed = round_up(at, 64)
        at = self.at_packed + (rows * self.row_bytes if self.packed else 0)
        if self.weight != NULL:
            self.zero_row = Scratch()
            self.zeros = self.zero_row.take(self.row_bytes)
        self.at_labels = round_up(at, 64)
        self.at_predictions = self.at_labels + self.slot_rows * sizeof(int64_t)
        self.at_factors = self.at_predictions + self.slot_rows * sizeof(int64_t)
        self.at_losses = self.at_factors + self.slot_rows * self.size
        self.slot_bytes = round_up(self.at_losses + self.slot_rows * self.size, 64)
        self.panel_bytes = self.size * max(
            <Py_ssize_t>FORWARD_PANEL * round_up(self.piece_rows, 32), <Py_ssize_t>GRADIENT_PANEL * self.slot_rows)
        cdef Py_ssize_t n_slots = 1 if self.has_gradient else self.n_threads
        self.scratch = Scratch()
        self.slots = self.scratch.take(self.slot_bytes * n_slots)
        self.panel_block = Scratch()
        self.panels = self.panel_block.take(self.panel_bytes * self.n_threads, zeroed=False)
        cdef Py_ssize_t n_pieces = n_blocks * self.n_row_pieces
        self.totals = Scratch()
        self.loss_of_piece = <double *>self.totals.take(n_pieces * (sizeof(double) + sizeof(int64_t)))
        self.correct_of_piece = <int64_t *>(self.loss_of_piece + n_pieces)
        cdef Py_ssize_t n_parameters = (self.n_features + 1) * self.n_classes
        if self.updates and self.blocks_per_batch > 1:  # the gradient of an unfinished batch
            self.partial = Scratch()
            self.W_sink.gradient = self.partial.take(n_parameters * self.size)
            self.b_sink.gradient = <char *>self.W_sink.gradient + self.n_features * self.n_classes * self.size

    cdef void block_span(self, int64_t block, Py_ssize_t *begin, Py_ssize_t *end,
                         Py_ssize_t *batch_size) noexcept nogil:
        """Rows begin..end of a block, and how many rows its batch has."""
        cdef Py_ssize_t batch = block // self.blocks_per_batch
        cdef Py_ssize_t batch_end = min((batch + 1) * self.batch_rows, self.n_rows)
        batch_size[0] = batch_end - batch * self.batch_rows
        begin[0] = min(batch * self.batch_rows + block % self.blocks_per_batch * self.block_rows, batch_end)
        end[0] = min(begin[0] + self.block_rows, batch_end)

    cdef int64_t awaits(self, int64_t ticket) noexcept nogil:
        cdef int64_t per_block = self.n_row_pieces + self.n_feature_pieces
        if self.n_feature_pieces == 0:
            return 0
        return ticket - ticket % per_block + (self.n_row_pieces if ticket % per_block >= self.n_row_pieces else 0)

    cdef void piece(self, int64_t ticket, int slot) noexcept nogil:
        cdef int64_t per_block = self.n_row_pieces + self.n_feature_pieces
        cdef int64_t block = ticket // per_block
        cdef Py_ssize_t part = ticket % per_block
        cdef Py_ssize_t begin, end, batch_size
        self.block_span(block, &begin, &end, &batch_size)
        cdef char *scratch = self.slots + (0 if self.has_gradient else slot * self.slot_bytes)
        cdef char *panel = self.panels + slot * self.panel_bytes
        if part < self.n_row_pieces:
            self.row_piece(scratch, panel, block, part, begin, end, batch_size)
        elif end > begin:
            self.feature_piece(scratch, panel, block, part - self.n_row_pieces, end - begin)

    cdef inline const char *row(self, Py_ssize_t i) noexcept nogil:
        return self.X + (self.order[i] if self.order != NULL else i) * self.row_stride

    cdef void row_piece(self, char *scratch, char *panel, int64_t block, Py_ssize_t part, Py_ssize_t begin,
                        Py_ssize_t end, Py_ssize_t batch_size) noexcept nogil:
        cdef Py_ssize_t at = part * self.piece_rows              # of the piece, within the block
        cdef Py_ssize_t n = min(end - begin - at, self.piece_rows)
        if n <= 0:
            return
        cdef Py_ssize_t i, row_begin = begin + at
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
        cdef const void **later = NULL
        if not self.packed and end + at + n <= self.n_rows:
            later = rows + self.slot_rows
            for i in range(n):
                later[i] = self.row(end + at + i)
        self.kernels.forward[self.source](
            rows, later, n, self.n_features, self.W, self.b, self.n_classes, self.scale, logits, self.ld, panel)
        if self.logits != NULL:
            self.kernels.transpose(self.n_classes, n, logits, self.ld,
                                   self.logits + row_begin * self.n_classes * self.size, self.n_classes)
        if self.y != NULL:
            self.losses_of(scratch, block, part, row_begin, n, batch_size)
        elif self.predictions != NULL:
            self.kernels.argmax_columns(n, self.n_classes, logits, self.ld,
                                        <int64_t *>(scratch + self.at_predictions) + at)
        if self.predictions != NULL:
            for i in range(n):
                self.predictions[row_begin + i] = (<int64_t *>(scratch + self.at_predictions))[at + i]

    cdef void losses_of(self, char *scratch, int64_t block, Py_ssize_t part, Py_ssize_t row_begin, Py_ssize_t n,
                        Py_ssize_t batch_size) noexcept nogil:
        """Softmax, loss and dlogits of the rows of a piece, whose logits are there."""
        cdef Py_ssize_t i, stored, at = part * self.piece_rows
        cdef int64_t *labels = <int64_t *>(scratch + self.at_labels) + at
        cdef int64_t *predictions = <int64_t *>(scratch + self.at_predictions) + at
        cdef char *factors = scratch + self.at_factors + at * self.size
        cdef char *losses = scratch + self.at_losses + at * self.size
        cdef double weight, loss, factor = 1.0 / batch_size if self.updates else self.factor
        for i in range(n):
            stored = self.order[row_begin + i] if self.order != NULL else row_begin + i
            labels[i] = self.y[stored]
            weight = self.weight[stored] if self.weight != NULL else 1.0
            if self.size == 4:
                (<float *>factors)[i] = <float>(factor * weight)
            else:
                (<double *>factors)[i] = factor * weight
        self.kernels.cross_entropy_columns(
            n, self.n_classes, scratch + self.at_logits + at * self.size, self.ld, labels,
            factors if self.has_gradient else NULL, losses, predictions)
        cdef double total = 0.0
        cdef int64_t correct = 0
        for i in range(n):
            stored = self.order[row_begin + i] if self.order != NULL else row_begin + i
            weight = self.weight[stored] if self.weight != NULL else 1.0
            loss = (<float *>losses)[i] if self.size == 4 else (<double *>losses)[i]
            loss = weight * loss if weight != 0.0 else 0.0   # left out, even if it is NaN
            total += loss
            correct += predictions[i] == labels[i]
            if weight == 0.0:   # nor may a NaN in its row reach the gradient, as 0 * NaN
                (<const void **>scratch)[at + i] = self.zeros
            if self.losses != NULL and self.size == 4:
                (<float *>self.losses)[row_begin + i] = <float>loss
            elif self.losses != NULL:
                (<double *>self.losses)[row_begin + i] = loss
        self.loss_of_piece[block * self.n_row_pieces + part] = total
        self.correct_of_piece[block * self.n_row_pieces + part] = correct

    cdef void feature_piece(self, char *scratch, char *panel, int64_t block, Py_ssize_t part,
                            Py_ssize_t n) noexcept nogil:
        cdef gradient_sink W_sink = self.W_sink, b_sink = self.b_sink
        cdef Py_ssize_t in_batch = block % self.blocks_per_batch, begin, end, batch_size
        W_sink.first = b_sink.first = in_batch == 0
        W_sink.last = b_sink.last = 1
        if in_batch + 1 < self.blocks_per_batch:
            self.block_span(block + 1, &begin, &end, &batch_size)
            W_sink.last = b_sink.last = begin == end   # the last batch may have fewer blocks
        self.kernels.gradient[self.source](
            <const void **>scratch, n, self.n_features, part * PIECE_FEATURES,
            min((part + 1) * PIECE_FEATURES, self.n_features), scratch + self.at_logits, self.ld, self.n_classes,
            self.scale, &W_sink, panel)
        if part == 0:
            self.kernels.bias_gradient(n, scratch + self.at_logits, self.ld, self.n_classes, &b_sink)


def row_pass(X, W, b, double scale, *, y=None, order=None, sample_weight=None, Py_ssize_t batch_rows=0,
             double factor=1.0, gradient=None, sgd=None, logits=None, losses=None, predictions=None,
             int n_threads=1):
    """Pass over the rows of X (in `order`) once; return (sum of losses, number predicted right).

    X (n_stored, n_features) uint8, float16, float32, float64, any strides; W (n_classes, n_features) and
    b (n_classes,) contiguous, float32 or float64. What is given is filled or updated in place:
    logits (n, n_classes); with y (n_stored,) int64 in range: losses (n,); predictions (n,) int64;
    gradient = (dW, db), scaled by `factor`; sgd = (learning_rate, momentum, nesterov, weight_decay, vW, vb)
    updates W and b after every `batch_rows` rows with the gradient of their mean loss.
    """
    cdef RowPass p = RowPass()
    cdef bint updates = sgd is not None
    p.updates, p.has_gradient = updates, updates or gradient is not None
    p.take_data(X, y, order, sample_weight)
    p.n_classes = len(b)
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
        p.logits = <char *>p.take(logits, p.n_rows * p.n_classes, kind, True, "logits")
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
        p.W_sink.learning_rate = p.b_sink.learning_rate = learning_rate
        p.W_sink.momentum = p.b_sink.momentum = momentum
        p.W_sink.nesterov = p.b_sink.nesterov = nesterov
        p.W_sink.weight_decay = weight_decay
        if W_velocity is not None:
            p.W_sink.velocity = p.take(W_velocity, n_parameters, kind, True, "velocity of W")
            p.b_sink.velocity = p.take(b_velocity, p.n_classes, kind, True, "velocity of b")
    p.plan(batch_rows, n_threads)
    cdef Py_ssize_t n_pieces = p.n_tickets // (p.n_row_pieces + p.n_feature_pieces) * p.n_row_pieces
    p.allocate(n_pieces // p.n_row_pieces)
    p.run()
    cdef double loss = 0.0
    cdef int64_t correct = 0
    cdef Py_ssize_t i
    for i in range(n_pieces):
        loss += p.loss_of_piece[i]
        correct += p.correct_of_piece[i]
    return loss, correct


def linear_gradient(X, dlogits, double scale, dW, db):
    """dW[k, j] = scale * sum_i dlogits[k, i] X[i, j] and db[k] = sum_i dlogits[k, i], on this thread.

    dlogits is class-major (n_classes, n_samples), as everything here contiguous and of one float type.
    """
    cdef RowPass p = RowPass()
    p.take_data(X, None, None, None)
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


# ---- rows of logits -----------------------------------------------------------------------------

cdef enum:
    TILE_ROWS = 32
    FEW_CLASSES = 32         # above it, rows by themselves fill the lanes well enough
    SCRATCH_CLASSES = 8192   # of a tile: 1 MB of float


cdef class SoftmaxPass(Team):
    """Softmax along the middle axis of (n_outer, n_classes, n_inner) logits, in one of two ways.

    Few classes, or rows next to each other: tiles of TILE_ROWS rows are brought into
    class-major scratch and back, their lanes are rows. Otherwise row by row, the lanes are classes; a row
    whose classes are not next to each other is copied into scratch and back.
    """
    cdef const kernel_table *kernels
    cdef rows_kernel kernel                   # softmax or log_softmax; NULL: cross-entropy
    cdef list views
    cdef Py_ssize_t size, n_outer, n_classes, n_inner, piece_rows
    cdef const char *x
    cdef Py_ssize_t x_strides[3]
    cdef char *out                            # C-contiguous, or NULL
    # cross-entropy
    cdef const char *dense                    # target of a row, or NULL
    cdef Py_ssize_t dense_strides[3]
    cdef const int64_t *y
    cdef int64_t ignored
    cdef const char *label_weight
    cdef char *losses
    cdef double factor
    cdef Scratch scratch
    cdef char *slots
    cdef Py_ssize_t row_bytes, slot_bytes
    cdef bint tiled
    cdef Py_ssize_t tiles_per_outer           # where n_inner > 1

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
        # by the shape alone: the same numbers in another layout give the same bits
        self.tiled = plain and (self.n_classes <= FEW_CLASSES if self.n_inner == 1 else
                                self.n_classes <= SCRATCH_CLASSES and self.n_inner >= TILE_ROWS // 2)
        self.row_bytes = round_up(self.n_classes * self.size, 64)
        if self.tiled:
            self.tiles_per_outer = ceil_div(self.n_inner, TILE_ROWS)
            self.n_tickets = ceil_div(self.n_outer, TILE_ROWS) if self.n_inner == 1 else (
                self.n_outer * self.tiles_per_outer)
            self.slot_bytes = TILE_ROWS * (self.n_classes + 1) * self.size + 2 * TILE_ROWS * sizeof(int64_t)
        else:
            self.piece_rows = max(1, min(256, (1 << 14) // self.n_classes))
            self.n_tickets = ceil_div(n_rows, self.piece_rows)
            self.slot_bytes = 3 * self.row_bytes
        # a thread pays from some 50 us of work, at about 1 ns an element
        self.n_threads = max(1, min(n_threads, 1 << 16, <int>min(n_rows * self.n_classes / 5e4, 1e6)))
        self.slot_bytes = round_up(self.slot_bytes, 64)
        self.scratch = Scratch()
        self.slots = self.scratch.take(self.slot_bytes * self.n_threads)

    cdef void piece(self, int64_t ticket, int slot) noexcept nogil:
        cdef char *scratch = self.slots + slot * self.slot_bytes
        cdef Py_ssize_t begin = ticket * self.piece_rows, end, r
        if self.tiled:
            self.tile(ticket, scratch)
            return
        end = min(begin + self.piece_rows, self.n_outer * self.n_inner)
        for r in range(begin, end):
            self.one_row(r // self.n_inner, r % self.n_inner, r, scratch)

    cdef void tile(self, int64_t ticket, char *scratch) noexcept nogil:
        cdef Py_ssize_t n, k, row, a = 0, b = 0, size = self.size
        if self.n_inner == 1:
            a = row = ticket * TILE_ROWS
            n = min(<Py_ssize_t>TILE_ROWS, self.n_outer - a)
        else:
            a, b = ticket // self.tiles_per_outer, ticket % self.tiles_per_outer * TILE_ROWS
            row = a * self.n_inner + b
            n = min(<Py_ssize_t>TILE_ROWS, self.n_inner - b)
        cdef const char *x = self.x + a * self.x_strides[0] + b * self.x_strides[2]
        cdef Py_ssize_t across = self.x_strides[0] if self.n_inner == 1 else self.x_strides[2]
        if self.x_strides[1] == size and (<uintptr_t>x | <uintptr_t>across) % size == 0:
            self.kernels.transpose(n, self.n_classes, x, across // size, scratch, TILE_ROWS)
        else:
            for k in range(self.n_classes):
                copy_items(scratch + k * TILE_ROWS * size, size, x + k * self.x_strides[1], across, n, size, False)
        if self.kernel != NULL:
            self.kernels.softmax_columns(n, self.n_classes, scratch, TILE_ROWS,
                                         self.kernel == self.kernels.log_softmax_rows)
        else:
            self.tile_losses(row, n, scratch)
        if self.out == NULL:
            return
        cdef char *out = self.out + (a * self.n_classes * self.n_inner + b) * size
        if self.n_inner == 1:
            self.kernels.transpose(self.n_classes, n, scratch, TILE_ROWS, out, self.n_classes)
        else:
            for k in range(self.n_classes):
                memcpy(out + k * self.n_inner * size, scratch + k * TILE_ROWS * size, n * size)

    cdef void tile_losses(self, Py_ssize_t row, Py_ssize_t n, char *scratch) noexcept nogil:
        """Losses of n rows and, in place of their logits, the gradient; an ignored row has neither."""
        cdef char *factors = scratch + TILE_ROWS * self.n_classes * self.size
        cdef int64_t *labels = <int64_t *>(factors + TILE_ROWS * self.size)
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
        self.kernels.cross_entropy_columns(n, self.n_classes, scratch, TILE_ROWS, labels,
                                           factors if self.out != NULL else NULL, losses, labels + TILE_ROWS)
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
            self.kernel(1, self.n_classes, x, 0, out, 0)
        else:
            dense = self.dense
            if dense != NULL:
                dense = self.contiguous_row(dense, self.dense_strides, a, b, scratch + 2 * self.row_bytes)
            y = self.y
            if y != NULL:
                y += r
            self.kernels.cross_entropy_rows(1, self.n_classes, x, 0, dense, 0, y, self.ignored, self.label_weight,
                                            self.factor, self.losses + r * self.size, out, 0)
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


def elementary(str name, x, out):
    """exp (of x <= 0) or log (of x >= 1) of a contiguous array: the functions inside, for their tests."""
    cdef View view = View(x, PyBUF_C_CONTIGUOUS)
    cdef char kind = view.kind()
    if kind != c"f" and kind != c"d" or view.reversed():
        raise TypeError("x: expected float32 or float64")
    if name not in ("exp", "log"):
        raise ValueError(f"name is {name!r}, expected 'exp' or 'log'")
    cdef Py_ssize_t n = view.buffer.len // view.buffer.itemsize
    cdef const kernel_table *kernels = &isa.f64 if kind == c"d" else &isa.f32
    cdef View to = contiguous(out, n, kind, True, "out")
    cdef elementary_kernel kernel = kernels.exp_nonpositive if name == "exp" else kernels.log_from_one
    with nogil:
        kernel(n, view.buffer.buf, to.buffer.buf)


def multiply_adds(str dtype, Py_ssize_t n):
    """Spend n rounds of multiply-adds in registers ("float32" or "float64"); return their FLOP."""
    cdef double result = 0.0, flop
    cdef const kernel_table *kernels = &isa.f64 if dtype == "float64" else &isa.f32
    with nogil:
        flop = kernels.multiply_adds(n, &result)
    return flop


def read_all(array):
    """Read every byte of a contiguous array once (the limit of any pass over it); return its bytes."""
    cdef View view = View(array, PyBUF_C_CONTIGUOUS)
    with nogil:
        isa.f32.read_all(view.buffer.buf, view.buffer.len)
    return view.buffer.len
