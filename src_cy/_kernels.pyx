# Instruction sets, buffers, scratch; the .pxi files hold the threads and the two passes. What happens in registers is
# in simd/; README.md is the map, and says what each word means.
#
# Kinds of pass, all cut into pieces of work that a team of threads takes in order:
#   RowPass      X -> logits -> softmax -> loss, predictions, dlogits -> gradient or SGD update
#   SoftmaxPass  logits -> softmax, log_softmax, or cross-entropy with its gradient
#   SparsePass   as RowPass, of sparse rows and W by features; SparseEpoch: its SGD updates
# The callers have checked their arrays; the checks here are only what memory safety needs. A pass holds the buffers of
# its arrays, so a helper thread that starts late finds them alive.
from _thread import start_new_thread

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer)
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

from simd cimport *

__all__ = [
    "LogitRows", "Parameters", "Sink", "SparseColumns", "SparseRows", "StoredRows", "Targets", "active",
    "available", "count_threads_cost", "elementary", "helpers_started", "largest_slopes", "line_direction",
    "line_finish", "line_gram", "line_largest", "line_meet", "line_products", "line_shift", "line_step",
    "linear_gradient", "model_product", "multiply_adds", "read_all", "row_pass", "shuffle", "softmax_pass",
    "sparse_add", "sparse_gradient", "sparse_minibatches", "sparse_pass", "sweep", "use", "wait_at_most"]


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


# ---- scratch ------------------------------------------------------------------------------------

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

include "threads.pxi"
include "records.pxi"
include "row_plan.pxi"
include "row_pass.pxi"
include "row_call.pxi"
include "softmax_pass.pxi"
include "sparse_rows.pxi"
include "sparse_pass.pxi"
include "sparse_sums.pxi"
include "sparse_updates.pxi"
include "coordinate_descent.pxi"
include "lines.pxi"


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
