# Sparse rows, checked for memory safety, and the same entries by columns. Included by _kernels.pyx.

cdef Py_ssize_t int_bytes(View view, str name) except 0:
    """4 or 8: the size of the integers of a contiguous array."""
    cdef char kind = view.kind()
    cdef Py_ssize_t size = view.buffer.itemsize
    if kind not in (c"i", c"l", c"q") or size not in (4, 8) or view.reversed() or view.buffer.ndim != 1 or (
            <uintptr_t>view.buffer.buf % size != 0):
        raise TypeError(f"{name}: expected a contiguous vector of int32 or int64")
    return size


cdef inline int64_t integer_at(const char *items, Py_ssize_t size, Py_ssize_t i) noexcept nogil:
    return (<const int32_t *>items)[i] if size == 4 else (<const int64_t *>items)[i]


cdef class SparseRows:
    """Rows by their entries, as scipy.sparse.csr_array has them, checked: what kernels may follow.

    values (n_entries,) uint8, float32 or float64; indices (n_entries,) and indptr (n_rows + 1,) int32 or int64.
    Features of a row may come in any order and several times. The arrays are not copied; who writes into indices or
    indptr later makes the kernels read foreign memory.
    """
    cdef readonly Py_ssize_t n_rows, n_features, n_entries
    cdef readonly object arrays               # (values, indices, indptr), kept alive
    cdef list views
    cdef const char *values
    cdef const char *indices
    cdef const char *indptr
    cdef char kind                            # of the values
    cdef Py_ssize_t index_size, pointer_size

    def __init__(self, values, indices, indptr, Py_ssize_t n_features):
        cdef View view
        self.arrays, self.views, self.n_features = (values, indices, indptr), [], n_features
        view = View(values, PyBUF_C_CONTIGUOUS)
        self.views.append(view)
        self.kind, self.values, self.n_entries = view.kind(), <const char *>view.buffer.buf, len(values)
        if self.kind not in (c"B", c"f", c"d") or view.reversed() or view.buffer.ndim != 1 or (
                <uintptr_t>view.buffer.buf % view.buffer.itemsize != 0):
            raise TypeError("data: expected a contiguous vector of uint8, float32 or float64")
        view = View(indices, PyBUF_C_CONTIGUOUS)
        self.views.append(view)
        self.index_size, self.indices = int_bytes(view, "indices"), <const char *>view.buffer.buf
        if len(indices) != self.n_entries:
            raise ValueError(f"data has {self.n_entries} entries but indices has {len(indices)}")
        view = View(indptr, PyBUF_C_CONTIGUOUS)
        self.views.append(view)
        self.pointer_size, self.indptr = int_bytes(view, "indptr"), <const char *>view.buffer.buf
        self.n_rows = len(indptr) - 1
        if self.n_rows < 0:
            raise ValueError("indptr is empty, expected n_rows + 1 numbers")
        if not 0 <= n_features < 1 << 31 or self.n_rows >= 1 << 31:
            raise ValueError(f"shape is ({self.n_rows}, {n_features}), expected fewer than 2^31 rows and features")
        self.check()

    cdef int check(self) except -1:
        cdef Py_ssize_t i = 0, bad = -1, e
        cdef int64_t begin, end = 0
        with nogil:
            begin = self.start(0)
            for i in range(self.n_rows):
                end = self.start(i + 1)
                if end < begin or end > self.n_entries or begin < 0:
                    bad = i
                    break
                begin = end
        if bad >= 0 or self.start(0) != 0 or self.start(self.n_rows) != self.n_entries:
            i = max(bad, 0)
            raise ValueError(f"indptr[{i}] is {self.start(i)} and indptr[{min(i + 1, self.n_rows)}] is "
                             f"{self.start(min(i + 1, self.n_rows))}, expected numbers from 0 up to the "
                             f"{self.n_entries} entries, none below the one before")
        if self.all_below():
            return 0
        with nogil:
            for e in range(self.n_entries):
                if not 0 <= integer_at(self.indices, self.index_size, e) < self.n_features:
                    bad = e
                    break
        if bad >= 0:
            for i in range(self.n_rows):
                if self.start(i + 1) > bad:
                    break
            raise ValueError(f"indices[{bad}] is {integer_at(self.indices, self.index_size, bad)} (in row {i}), "
                             f"expected a feature 0..{self.n_features - 1}")
        return 0

    cdef bint all_below(self) noexcept nogil:
        """Are all features in range? Of one that is not, the sign bit of itself or of last - itself is set."""
        cdef const uint32_t *short_ones = <const uint32_t *>self.indices
        cdef const uint64_t *long_ones = <const uint64_t *>self.indices
        cdef uint32_t signs = 0, last = <uint32_t>(self.n_features - 1)
        cdef uint64_t long_signs = 0, long_last = <uint64_t>(self.n_features - 1)
        cdef Py_ssize_t e
        if self.index_size == 4:
            for e in range(self.n_entries):
                signs |= short_ones[e] | (last - short_ones[e])
            return signs >> 31 == 0
        for e in range(self.n_entries):
            long_signs |= long_ones[e] | (long_last - long_ones[e])
        return long_signs >> 63 == 0

    cdef inline int64_t start(self, Py_ssize_t i) noexcept nogil:
        return integer_at(self.indptr, self.pointer_size, i)

    cdef inline double value(self, Py_ssize_t e) noexcept nogil:
        if self.kind == c"B":
            return (<const unsigned char *>self.values)[e]
        return (<const float *>self.values)[e] if self.kind == c"f" else (<const double *>self.values)[e]

    cdef void copy_entries(self, Py_ssize_t begin, Py_ssize_t end, int32_t *at, char *values,
                           Py_ssize_t size) noexcept nogil:
        """Entries begin..end as kernels want them: int32, and values of the compute type."""
        cdef Py_ssize_t e
        if self.index_size == 4:
            memcpy(at, self.indices + begin * 4, (end - begin) * 4)
        else:
            for e in range(begin, end):
                at[e - begin] = <int32_t>(<const int64_t *>self.indices)[e]
        if self.kind == (c"f" if size == 4 else c"d"):
            memcpy(values, self.values + begin * size, (end - begin) * size)
        elif size == 4:
            for e in range(begin, end):
                (<float *>values)[e - begin] = <float>self.value(e)
        else:
            for e in range(begin, end):
                (<double *>values)[e - begin] = self.value(e)


cdef class SparseColumns:
    """The same entries by their features: of each, its rows in order, and the values of the compute type."""
    cdef readonly Py_ssize_t n_rows, n_features, n_entries
    cdef readonly Py_ssize_t nbytes
    cdef readonly bint finite                 # is every value a number?
    cdef Py_ssize_t size
    cdef Scratch memory
    cdef sparse_lines lines

    def __init__(self, SparseRows rows, str dtype):
        cdef Py_ssize_t i, e, j, n = rows.n_entries, d = rows.n_features
        cdef int64_t *starts
        cdef int32_t *at
        cdef char *values
        cdef int64_t place
        cdef double value
        cdef bint finite = True
        self.n_rows, self.n_features, self.n_entries = rows.n_rows, d, n
        self.size = 8 if dtype == "float64" else 4
        self.nbytes = (d + 2) * sizeof(int64_t) + n * (sizeof(int32_t) + self.size)
        self.memory = Scratch()
        starts = <int64_t *>self.memory.take(self.nbytes, zeroed=False)
        memset(starts, 0, (d + 2) * sizeof(int64_t))
        values = <char *>(starts + d + 2)
        at = <int32_t *>(values + n * self.size)
        with nogil:
            # starts[j + 1] is where the next entry of feature j goes, and so in the end where feature j + 1 begins
            for e in range(n):
                starts[integer_at(rows.indices, rows.index_size, e) + 2] += 1
            for j in range(2, d + 2):
                starts[j] += starts[j - 1]
            for i in range(rows.n_rows):
                for e in range(rows.start(i), rows.start(i + 1)):
                    j = integer_at(rows.indices, rows.index_size, e)
                    place = starts[j + 1]
                    starts[j + 1] = place + 1
                    at[place] = <int32_t>i
                    value = rows.value(e)
                    finite &= value - value == 0
                    if self.size == 4:
                        (<float *>values)[place] = <float>value
                    else:
                        (<double *>values)[place] = value
        self.finite = finite
        self.lines.starts, self.lines.at, self.lines.values, self.lines.n_lines = starts, at, values, d

    def as_arrays(self):
        """(values, rows, starts): copies, for tests and for what reads columns in Python."""
        import numpy as np
        cdef bint wide = self.size == 8
        values = np.empty(self.n_entries, "f8" if wide else "f4")
        rows, starts = np.empty(self.n_entries, "i4"), np.empty(self.n_features + 1, "i8")
        cdef View view
        for array, source in ((values, <uintptr_t>self.lines.values), (rows, <uintptr_t>self.lines.at),
                              (starts, <uintptr_t>self.lines.starts)):
            view = View(array, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            memcpy(view.buffer.buf, <const void *><uintptr_t>source, view.buffer.len)
        return values, rows, starts
