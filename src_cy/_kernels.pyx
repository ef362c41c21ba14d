# Instruction sets, buffers, how many threads, the team; then the two passes, which the .pxi files hold. What happens in
# registers is in simd/; README.md is the map, and says what each word means.
#
# Two kinds of pass, both cut into pieces of work that a team of threads takes in order:
#   RowPass      X -> logits -> softmax -> loss, predictions, dlogits -> gradient or SGD update
#   SoftmaxPass  logits -> softmax, log_softmax, or cross-entropy with its gradient
# The callers have checked their arrays; the checks here are only what memory safety needs. A pass holds the buffers of
# its arrays, so a helper thread that starts late finds them alive.
from _thread import start_new_thread

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer)
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

from simd cimport *

__all__ = [
    "Parameters", "Sink", "StoredRows", "Targets", "active", "available", "count_threads_cost", "elementary",
    "helpers_started", "linear_gradient", "multiply_adds", "read_all", "row_pass", "shuffle", "softmax_pass", "use",
    "wait_at_most"]


# ---- instruction sets ---------------------------------------------------------------------------

cdef const instruction_set *found[MOST_INSTRUCTION_SETS]
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
cdef char UINT64 = c"L" if sizeof(long) == 8 else c"Q"


def shuffle(order, words):
    """Put int64 `order` into a random order, in place, by ceil(n / 2) uint64 of random bits."""
    cdef View items = View(order, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
    cdef Py_ssize_t n = items.buffer.len // sizeof(int64_t)
    items = contiguous(order, n, INT64, True, "order")
    cdef View random = contiguous(words, ceil_div(n, 2), UINT64, False, "words")
    with nogil:
        shuffle_items(<int64_t *>items.buffer.buf, n, <const uint64_t *>random.buffer.buf)


# ---- how many threads ---------------------------------------------------------------------------

# What threads cost where the process may use two CPUs, in seconds.
# To start a helper: if its CPU has just been at work, this takes 12 us of the caller's time, and 30 us until the helper
# works; after a pause, 50 to 80 us and 115 to 180 us.
cdef double START = 100e-6
# To wait for the others and fetch what they have written: 4 to 7 us, where two threads share 256 rows of 784 pixels.
cdef double HAND_OVER = 5e-6
# Where there are more CPUs, a start costs so many times as much, as the helper's CPU has slept: on sixteen, 1 ms of
# work without waits took as long on two threads as on one. A wait costs no more there: an epoch of 235 batches took
# 9.9, 7.8 and 11.2 ms on one, two and four threads, which is 6 us for each helper and wait.
cdef double MORE_CPUS = 2.0

# What work costs one thread: measured on Zen 4 with AVX2 and AVX-512, right within a tenth.
cdef double FLOPS = 100e9          # FLOP of float32 in a second
cdef double BANDWIDTH = 20e9       # bytes of X in a second
cdef double LOGIT = 0.7e-9         # seconds for the softmax of a float32

cdef double costs_count = 1.0      # 0, in tests: threads cost nothing
cdef int64_t n_helpers = 0         # started so far, by all calls


cdef int threads_that_pay(int n_threads, Py_ssize_t n_pieces, Py_ssize_t n_others, double seconds,
                          double n_waits) noexcept nogil:
    """The number of threads, at most n_threads, that finish first. One thread alone would take `seconds`.

    Half of the work is cut into n_pieces, the other half into n_others (the same, if all pieces are alike). The thread
    with the most pieces keeps the others waiting, and a thread without a piece is not started. Helpers are started one
    after the other, and all threads wait for each other n_waits times. No order of a sum may depend on the answer.
    """
    cdef double least = seconds, cost = costs_count * (START + n_waits * HAND_OVER), here
    cdef int n, best = 1
    if n_threads < 2 or seconds <= 2 * cost:
        return 1
    if usable_cpus() > 2:
        cost += costs_count * (MORE_CPUS - 1) * START
    for n in range(2, <int>min(n_threads, max(n_pieces, n_others), 1 << 16) + 1):
        here = (n - 1) * cost
        if here >= least:
            break
        here += seconds / 2 * (<double>ceil_div(n_pieces, n) / n_pieces + <double>ceil_div(n_others, n) / n_others)
        if here < least:
            least, best = here, n
    return best


# ---- the team -----------------------------------------------------------------------------------

cdef double patience = 250e-6      # a wait that takes longer than this and four pieces together: a CPU was lost
cdef double offer_every = 200e-6   # a helper offers its CPU to other processes so often
cdef double least_alone = 0.01     # how long nobody helps after a CPU was lost:
cdef double most_alone = 0.16      # twice as long each time if it happens soon again, up to this
cdef double soon_again = 0.5       # soon: within so many seconds after such a while
cdef double alone_for = least_alone
cdef double alone_until = 0.0      # on the clock of monotonic_seconds


cdef void go_alone(double now) noexcept nogil:
    """Send the helpers away for a while. If a CPU is lost soon after such a while, the next one is twice as long."""
    global alone_for, alone_until
    if now < alone_until:
        return
    alone_for = min(2 * alone_for, most_alone) if now < alone_until + soon_again else least_alone
    alone_until = now + alone_for


cdef class Team:
    """Pieces of work, which the calling thread and its helpers take by their tickets.

    If a busy process takes the CPU of a thread that holds a ticket, all others wait for some milliseconds. So a helper
    yields between tickets: a process that wants a CPU takes it then, when nobody waits. The caller yields, too, until
    all helpers have come, because Linux may have started one on the caller's CPU. A thread that finds that a CPU was
    lost nevertheless sends the helpers away, and for a while the caller works alone.
    """
    cdef ticket_office office
    cdef int64_t n_tickets
    cdef int64_t n_started               # helpers, in this pass
    cdef int n_threads, cpu_of_caller

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        """Do a piece of work. The caller is thread 0; helpers are 1, 2, ..."""

    cdef int64_t awaits(self, int64_t ticket) noexcept nogil:
        """How many pieces must be finished before this one may start."""
        return 0

    cdef bint work(self, int thread, double until) noexcept nogil:
        """Take tickets until time is up (False), or none are left, or this thread is to leave (True)."""
        cdef int64_t ticket, awaited, n_done = 0
        cdef double now = monotonic_seconds(), offered = now if thread > 0 else 0.0, began, busy = 0.0
        while now < until:
            if now > offered + offer_every and (thread > 0 or has_come(&self.office) < self.n_started):
                offered = now
                sched_yield()
            ticket = next_ticket(&self.office)
            awaited = self.awaits(ticket)
            if ticket >= self.n_tickets or not wait_for(&self.office, &self.office.done, awaited):
                return True
            began = monotonic_seconds()
            if n_done > 0 and awaited > 0 and began - now > patience + 4 * busy / n_done:
                go_alone(began)
            if thread > 0 and began < alone_until:
                return True
            now = began
            if claimed(&self.office.next, ticket):
                self.piece(ticket, thread)
                finish_ticket(&self.office)
                now = monotonic_seconds()
                busy += now - began
                n_done += 1
        return False

    def help(self, int thread):
        """A helper thread's whole life."""
        with nogil:
            leave_cpu_of_caller(self.cpu_of_caller, thread)
            if enter_office(&self.office):
                self.work(thread, INFINITY)
            leave_office(&self.office)

    cdef void call_helpers(self) except *:
        """Start helpers; but none while earlier ones are still here, or nobody should help, or no piece is left."""
        global n_helpers
        cdef int64_t thread, n_left = self.n_tickets - next_ticket(&self.office)
        if self.n_threads < 2 or has_left(&self.office) < self.n_started or monotonic_seconds() < alone_until:
            return
        self.cpu_of_caller = current_cpu()
        try:
            # Not threading.Thread, whose start() waits until the new thread has been scheduled.
            for thread in range(1, min(n_left, self.n_threads)):
                start_new_thread(self.help, (thread,))
                self.n_started += 1
                n_helpers += 1
        except RuntimeError:
            pass  # no more threads to be had: the same result, later

    cdef int run(self) except -1:
        cdef bint finished = False
        try:
            while not finished:
                self.call_helpers()
                with nogil:
                    finished = self.work(0, monotonic_seconds() + 0.05)
                PyErr_CheckSignals()
            with nogil:
                wait_for(&self.office, &self.office.done, self.n_tickets)
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


# ---- the passes ---------------------------------------------------------------------------------

include "records.pxi"
include "row_plan.pxi"
include "row_pass.pxi"
include "row_call.pxi"
include "softmax_pass.pxi"


# ---- for tests and benchmarks -------------------------------------------------------------------

def elementary(str name, x, out):
    """exp (of x <= 0) or log (of x >= 1) of a contiguous array, as the kernels compute them: for their tests."""
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


def wait_at_most(double seconds):
    """Set how long a thread waits before it sends the helpers away; return what it was. They may help again."""
    global patience, alone_until
    was, patience, alone_until = patience, seconds, 0.0
    return was


def count_threads_cost(double factor):
    """Set how much the cost of threads counts when their number is chosen (0: not at all); return what it was."""
    global costs_count
    was, costs_count = costs_count, factor
    return was


def helpers_started():
    """How many helper threads all calls so far have started."""
    return n_helpers


def multiply_adds(str dtype, Py_ssize_t n):
    """Spend n rounds of multiply-adds in registers ("float32" or "float64"); return their FLOP."""
    cdef double result = 0.0, flop
    cdef const kernel_table *kernels = &isa.f64 if dtype == "float64" else &isa.f32
    with nogil:
        flop = kernels.multiply_adds(n, &result)
    return flop


def read_all(array):
    """Read a contiguous array once (the limit of any pass over it); return how many bytes it has."""
    cdef View view = View(array, PyBUF_C_CONTIGUOUS)
    with nogil:
        isa.f32.read_all(view.buffer.buf, view.buffer.len)
    return view.buffer.len
