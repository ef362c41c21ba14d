# The C side as Cython sees it: the kernel tables (simd/kernels.h) and the tickets (team.h).
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "simd/kernels.h" nogil:
    enum:
        MOST_KEPT
        GRADIENT_CHUNK
        MOST_INSTRUCTION_SETS

    ctypedef int stored_type
    enum:
        STORED_U8
        N_STORED_TYPES

    ctypedef struct x_rows:
        const void *const *rows
        Py_ssize_t n_rows
        Py_ssize_t n_features
        const void *const *later
        Py_ssize_t n_later
        void *staged
        Py_ssize_t stride

    ctypedef struct linear_map:
        const void *W
        const void *b
        Py_ssize_t n_classes
        double scale
        const void *packed
        bint by_dots

    ctypedef struct gradient_sink:
        void *W
        void *velocity
        void *gradient
        bint first
        bint last
        double scale
        double learning_rate
        double momentum
        double weight_decay
        bint nesterov

    ctypedef struct sparse_lines:
        const int64_t *starts
        const int32_t *at
        const void *values
        Py_ssize_t n_lines

    ctypedef struct sparse_sink:
        void *out
        Py_ssize_t ld
        Py_ssize_t first_line
        const void *bias
        double scale
        bint adds

    ctypedef struct sparse_rests:
        double W_of_W
        double W_of_velocity
        double velocity_of_W
        double velocity_of_velocity
        double shrinks

    enum:
        LOGIT_ROWS

    ctypedef struct logit_rows:
        Py_ssize_t n_rows
        Py_ssize_t n_classes
        Py_ssize_t ld
        const void *Z
        void *delta
        void *P
        void *R
        Py_ssize_t R_ld
        const int64_t *y
        const double *weight

    ctypedef struct slope_scan:
        Py_ssize_t n_classes
        const void *G
        const void *null
        const void *counts
        const void *left
        const void *c
        double mix
        void *most
        void *most_dual

    ctypedef struct class_model:
        const sparse_lines *lines
        Py_ssize_t line_ld
        Py_ssize_t n_rows
        Py_ssize_t n_coordinates
        const int32_t *line_of
        void *u
        const void *start
        const void *gradient
        const void *room
        void *curvature
        void *before
        double l1
        double l2
        const void *p
        const void *delta
        const void *s
        const void *mass
        const void *share
        const int64_t *y
        int64_t number
        bint is_far
        double *bias
        double bias_gradient
        double bias_room
        int n_rounds
        void *scratch
        void *moved

    ctypedef enum fetching:
        FETCH_NONE
        FETCH_HALF
        FETCH_ALL

    ctypedef void (*rows_kernel)(
        Py_ssize_t n_rows, Py_ssize_t n_classes, const void *x, Py_ssize_t x_stride, void *out,
        Py_ssize_t out_stride, void *kept) noexcept nogil
    ctypedef void (*elementary_kernel)(Py_ssize_t n, const void *x, void *out) noexcept nogil

    ctypedef struct way_of_multiplying:
        Py_ssize_t most_features
        Py_ssize_t fewest_features
        Py_ssize_t fewest_classes
        Py_ssize_t fewest_rows
        bint even_weights
        double speed
        bint packs
        Py_ssize_t classes_at_once
        fetching forward_fetches
        void (*open)() noexcept nogil
        void (*close)() noexcept nogil
        Py_ssize_t (*row_bytes)(Py_ssize_t n_features) noexcept nogil
        Py_ssize_t (*weights_bytes)(Py_ssize_t n_features, Py_ssize_t n_classes) noexcept nogil
        Py_ssize_t (*forward_bytes)(Py_ssize_t n_rows, Py_ssize_t n_features) noexcept nogil
        Py_ssize_t (*gradient_bytes)(Py_ssize_t n_rows, Py_ssize_t n_classes) noexcept nogil
        bint (*pack_weights)(const void *W, Py_ssize_t n_features, Py_ssize_t n_classes, void *packed) noexcept nogil
        bint (*forward)(
            const x_rows *x, const linear_map *map, void *logits, Py_ssize_t ld, void *scratch) noexcept nogil
        bint (*gradient)(
            const x_rows *x, Py_ssize_t begin, Py_ssize_t end, const void *dlogits, Py_ssize_t ld,
            Py_ssize_t n_classes, const gradient_sink *sink, void *scratch) noexcept nogil

    ctypedef struct kernel_table:
        const way_of_multiplying *floats[4]
        const way_of_multiplying *faster[4]
        Py_ssize_t dot_classes
        void (*bias_gradient)(
            Py_ssize_t n_rows, const void *dlogits, Py_ssize_t ld, Py_ssize_t n_classes,
            const gradient_sink *sink) noexcept nogil
        void (*add_partials)(
            const void *partials, Py_ssize_t partial_size, Py_ssize_t n_partials, Py_ssize_t begin, Py_ssize_t end,
            const gradient_sink *sink) noexcept nogil
        void (*join_tree)(
            const void *sums, Py_ssize_t n, double *nodes, Py_ssize_t stride, int level) noexcept nogil
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
        void (*sparse_product)(
            const sparse_lines *lines, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t n_classes, const void *M,
            Py_ssize_t ld, bint squares, const sparse_sink *sink) noexcept nogil
        void (*sparse_add)(
            const sparse_lines *rows, Py_ssize_t n_classes, const void *M, Py_ssize_t ld, bint squares,
            double *sums) noexcept nogil
        void (*sparse_step)(
            Py_ssize_t n_lines, const int32_t *at, Py_ssize_t n_classes, const void *gradient,
            Py_ssize_t gradient_ld, Py_ssize_t ld, const gradient_sink *sink, double shrinks) noexcept nogil
        void (*sparse_rest)(
            Py_ssize_t n_lines, const int32_t *at, const int32_t *rested, const sparse_rests *rests,
            Py_ssize_t n_classes, void *W, void *velocity, Py_ssize_t ld) noexcept nogil
        double (*logit_step)(
            const logit_rows *rows, Py_ssize_t begin, Py_ssize_t n, double step) noexcept nogil
        double (*logit_entropy)(
            const logit_rows *rows, Py_ssize_t begin, Py_ssize_t n, double factor, double mix,
            const double *v) noexcept nogil
        void (*join_moves)(
            const logit_rows *rows, Py_ssize_t begin, Py_ssize_t n, const int64_t *classes, Py_ssize_t n_moved,
            const void *moved, void *s) noexcept nogil
        double (*descend)(const class_model *m) noexcept nogil
        void (*add_multiple)(Py_ssize_t n, double factor, const void *x, void *y) noexcept nogil
        double (*product)(Py_ssize_t n, const void *x, const void *y) noexcept nogil
        void (*solve_lines)(
            Py_ssize_t n_lines, Py_ssize_t n, const void *diagonal, double l2, const void *v, void *out) noexcept nogil
        void (*finish_lines)(
            Py_ssize_t n_lines, Py_ssize_t n, double factor, const void *mean, const void *bias, double l2,
            const void *x, void *g) noexcept nogil
        double (*largest_of_lines)(
            Py_ssize_t n_lines, Py_ssize_t n, const void *mean, const void *bias, const void *g) noexcept nogil
        void (*sum_lines)(
            Py_ssize_t n_lines, Py_ssize_t n, const void *factors, const void *x, void *sums) noexcept nogil
        void (*follow)(const class_model *m) noexcept nogil
        void (*couple)(
            const logit_rows *rows, Py_ssize_t begin, Py_ssize_t n, const void *delta, void *s) noexcept nogil
        void (*slopes)(const class_model *m) noexcept nogil
        void (*largest_slopes)(const slope_scan *scan, Py_ssize_t begin, Py_ssize_t end) noexcept nogil
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
    void leave_cpu_of_caller(int cpu_of_caller, int thread)
    void prefetch(const void *address)
    void shuffle_items(int64_t *items, Py_ssize_t n, const uint64_t *words)
    void copy_items(
        char *to, Py_ssize_t to_stride, const char *source, Py_ssize_t from_stride, Py_ssize_t n,
        Py_ssize_t item_size, int reversed)
