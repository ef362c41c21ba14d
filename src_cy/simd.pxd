# The C side as Cython sees it: the kernel tables (simd/kernels.h) and the tickets (team.h).
from libc.stdint cimport int64_t, uint64_t

cdef extern from "simd/kernels.h" nogil:
    enum:
        FORWARD_PANEL
        MOST_KEPT
        GRADIENT_PANEL
        GRADIENT_CHUNK
        MOST_INSTRUCTION_SETS

    ctypedef struct gradient_sink:
        void *W
        void *velocity
        void *gradient
        int first
        int last
        double learning_rate
        double momentum
        double weight_decay
        int nesterov

    ctypedef void (*forward_kernel)(
        const void *const *rows, const void *const *later, Py_ssize_t n_rows, Py_ssize_t n_features,
        const void *W, const void *b,
        Py_ssize_t n_classes, double scale, void *logits, Py_ssize_t ld, void *panel) noexcept nogil
    ctypedef void (*gradient_kernel)(
        const void *const *rows, Py_ssize_t n_rows, Py_ssize_t n_features, Py_ssize_t begin, Py_ssize_t end,
        const void *dlogits, Py_ssize_t ld, Py_ssize_t n_classes, double scale, const gradient_sink *sink,
        void *panel) noexcept nogil
    ctypedef void (*rows_kernel)(
        Py_ssize_t n_rows, Py_ssize_t n_classes, const void *x, Py_ssize_t x_stride, void *out,
        Py_ssize_t out_stride, void *kept) noexcept nogil
    ctypedef void (*elementary_kernel)(Py_ssize_t n, const void *x, void *out) noexcept nogil

    ctypedef struct tile_kernels:
        Py_ssize_t most_features
        Py_ssize_t fewest_classes
        Py_ssize_t fewest_rows
        double speed
        bint fetches_in_forward
        void (*open)() noexcept nogil
        void (*close)() noexcept nogil
        Py_ssize_t (*row_bytes)(Py_ssize_t n_features) noexcept nogil
        Py_ssize_t (*weights_bytes)(Py_ssize_t n_features, Py_ssize_t n_classes) noexcept nogil
        Py_ssize_t (*forward_bytes)(Py_ssize_t n_features) noexcept nogil
        Py_ssize_t (*gradient_bytes)(Py_ssize_t n_rows, Py_ssize_t n_classes) noexcept nogil
        int (*pack_weights)(const void *W, Py_ssize_t n_features, Py_ssize_t n_classes, void *packed) noexcept nogil
        int (*forward)(
            const void *const *rows, Py_ssize_t n_rows, const void *const *later, Py_ssize_t n_later,
            Py_ssize_t n_features, const void *W, const void *packed, const void *b, Py_ssize_t n_classes,
            double scale, void *logits, Py_ssize_t ld, void *staged, Py_ssize_t stride, void *scratch) noexcept nogil
        int (*gradient)(
            const void *staged, Py_ssize_t stride, const void *const *rows, Py_ssize_t n_rows, const void *const *later,
            Py_ssize_t n_later, Py_ssize_t n_features, Py_ssize_t begin, Py_ssize_t end, const void *dlogits,
            Py_ssize_t ld, Py_ssize_t n_classes, double scale, const gradient_sink *sink,
            void *scratch) noexcept nogil

    ctypedef struct kernel_table:
        forward_kernel forward[4]
        forward_kernel dots[4]
        Py_ssize_t dot_classes
        gradient_kernel gradient[4]
        const tile_kernels *tiles[4]
        void (*bias_gradient)(
            Py_ssize_t n_rows, const void *dlogits, Py_ssize_t ld, Py_ssize_t n_classes,
            const gradient_sink *sink) noexcept nogil
        void (*add_lanes)(
            const void *lanes, Py_ssize_t lane_size, Py_ssize_t n_lanes, Py_ssize_t begin, Py_ssize_t end, double scale,
            const gradient_sink *sink) noexcept nogil
        void (*cross_entropy_columns)(
            Py_ssize_t n_rows, Py_ssize_t n_classes, void *logits, Py_ssize_t ld, const int64_t *y,
            const void *factors, void *losses, int64_t *predictions) noexcept nogil
        void (*softmax_columns)(
            Py_ssize_t n_rows, Py_ssize_t n_classes, void *logits, Py_ssize_t ld, int logarithm) noexcept nogil
        void (*transpose)(
            Py_ssize_t n_rows, Py_ssize_t n_columns, const void *source, Py_ssize_t ld_in, void *out,
            Py_ssize_t ld_out) noexcept nogil
        void (*argmax_columns)(
            Py_ssize_t n_rows, Py_ssize_t n_classes, const void *logits, Py_ssize_t ld,
            int64_t *predictions) noexcept nogil
        rows_kernel softmax_rows
        rows_kernel log_softmax_rows
        void (*cross_entropy_rows)(
            Py_ssize_t n_rows, Py_ssize_t n_classes, const void *logits, Py_ssize_t logits_stride,
            const void *dense, Py_ssize_t dense_stride, const int64_t *y, int64_t ignored,
            const void *label_weight, double factor, void *losses, void *dlogits,
            Py_ssize_t dlogits_stride, void *kept) noexcept nogil
        elementary_kernel exp_nonpositive
        elementary_kernel log_from_one
        double (*multiply_adds)(Py_ssize_t n, void *result) noexcept nogil
        int64_t (*read_all)(const void *block, Py_ssize_t n_bytes) noexcept nogil

    ctypedef struct instruction_set:
        const char *name
        kernel_table f32
        kernel_table f64

    int available_instruction_sets(const instruction_set *found[MOST_INSTRUCTION_SETS])

cdef extern from "team.h" nogil:
    ctypedef struct ticket_office:
        int64_t next
        int64_t done
        int64_t inside
        int64_t closed

    int64_t next_ticket(const ticket_office *office)
    int sched_yield()
    void finish_ticket(ticket_office *office)
    void close_office(ticket_office *office)
    int enter_office(ticket_office *office)
    void leave_office(ticket_office *office)
    int64_t has_come(const ticket_office *office)
    int64_t has_left(const ticket_office *office)
    int wait_for(ticket_office *office, const int64_t *counter, int64_t least)
    int claimed(int64_t *counter, int64_t n)
    void set_counter(int64_t *counter, int64_t value)
    void wait_until_empty(ticket_office *office)
    double monotonic_seconds()
    int current_cpu()
    int usable_cpus()
    void leave_cpu_of_caller(int cpu_of_caller, int slot)
    void prefetch(const void *address)
    void shuffle_items(int64_t *items, Py_ssize_t n, const uint64_t *words)
    void copy_items(
        char *to, Py_ssize_t to_stride, const char *source, Py_ssize_t from_stride, Py_ssize_t n,
        Py_ssize_t item_size, int reversed)
