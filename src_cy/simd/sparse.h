/* Lines of few entries times a matrix: both products of sparse rows, and the second one row after row. */

/* The sums of classes k .. k + n_vectors * LANES (of the last vector, the first n_last) of one line, into `out`:
 *   sum_e x[e] * M[at[e]][k], x squared if `squares`.
 * Accumulators stay in registers. The line of M that an entry needs lies anywhere: it is fetched ENTRIES_AHEAD entries before.
 * Per entry: n_vectors loads and multiply-adds, one broadcast. */
INLINE void FN(sparse_line)(const int n_vectors, const int squares, const sparse_lines *lines, ptrdiff_t begin,
                            ptrdiff_t end, const T *M, ptrdiff_t ld, ptrdiff_t n_last, V sums[SPARSE_VECTORS])
{
    const T *values = (const T *)lines->values;
    const ptrdiff_t n_entries = (ptrdiff_t)lines->starts[lines->n_lines];
    V total[SPARSE_VECTORS];
    for (int v = 0; v < n_vectors; v++)
        total[v] = (V){0};
    for (ptrdiff_t chunk = begin; chunk < end; chunk += CHUNK) {
        const ptrdiff_t stop = end - chunk < CHUNK ? end : chunk + CHUNK;
        V sum[SPARSE_VECTORS];
        for (int v = 0; v < n_vectors; v++)
            sum[v] = (V){0};
        for (ptrdiff_t e = chunk; e < stop; e++) {
            if (e + ENTRIES_AHEAD < n_entries) {
                const char *later = (const char *)(M + (ptrdiff_t)lines->at[e + ENTRIES_AHEAD] * ld);
                for (int v = 0; v < n_vectors; v += 64 / (LANES * (int)sizeof(T)))
                    __builtin_prefetch(later + v * LANES * (int)sizeof(T), 0, 3);
            }
            const T *m = M + (ptrdiff_t)lines->at[e] * ld;
            const V x = FN(all)(squares ? values[e] * values[e] : values[e]);
            for (int v = 0; v < n_vectors - 1; v++)
                sum[v] = VOP(fma)(x, FN(load)(m + v * LANES), sum[v]);
            sum[n_vectors - 1] =
                VOP(fma)(x, FN(load_first)(m + (n_vectors - 1) * LANES, n_last, 0), sum[n_vectors - 1]);
        }
        for (int v = 0; v < n_vectors; v++)
            total[v] += sum[v];
    }
    for (int v = 0; v < n_vectors; v++)
        sums[v] = total[v];
}

/* The lines begin .. end, for the classes of one tile. */
INLINE void FN(sparse_tile)(const int n_vectors, const int squares, const sparse_lines *lines, ptrdiff_t begin,
                            ptrdiff_t end, const T *M, ptrdiff_t ld, ptrdiff_t n_last, const sparse_sink *sink,
                            ptrdiff_t k)
{
    const V scale = FN(all)((T)sink->scale);
    for (ptrdiff_t i = begin; i < end; i++) {
        V sums[SPARSE_VECTORS];
        FN(sparse_line)(n_vectors, squares, lines, (ptrdiff_t)lines->starts[i], (ptrdiff_t)lines->starts[i + 1], M + k,
                        ld, n_last, sums);
        T *out = (T *)sink->out + (i - sink->first_line) * sink->ld + k;
        const T *bias = sink->bias ? (const T *)sink->bias + k : NULL;
        for (int v = 0; v < n_vectors; v++) {
            const ptrdiff_t n = v < n_vectors - 1 ? LANES : n_last;
            V sum = sums[v] * scale;
            if (bias)
                sum += FN(load_first)(bias + v * LANES, n, 0);
            if (sink->adds)
                sum += FN(load_first)(out + v * LANES, n, 0);
            FN(store_first)(out + v * LANES, sum, n);
        }
    }
}

INLINE void FN(sparse_classes)(const int squares, const sparse_lines *lines, ptrdiff_t begin, ptrdiff_t end,
                               ptrdiff_t n_classes, const T *M, ptrdiff_t ld, const sparse_sink *sink)
{
    for (ptrdiff_t k = 0; k < n_classes; k += SPARSE_VECTORS * LANES) {
        const ptrdiff_t n = n_classes - k < SPARSE_VECTORS * LANES ? n_classes - k : SPARSE_VECTORS * LANES;
        const ptrdiff_t n_vectors = (n + LANES - 1) / LANES, n_last = n - (n_vectors - 1) * LANES;
#define OF_SIZE(size) FN(sparse_tile)(size, squares, lines, begin, end, M, ld, n_last, sink, k)
        switch (n_vectors) {
            CASE(1, OF_SIZE) CASE(2, OF_SIZE) CASE(3, OF_SIZE) CASE(4, OF_SIZE)
            CASE(5, OF_SIZE) CASE(6, OF_SIZE) CASE(7, OF_SIZE) CASE(8, OF_SIZE)
        }
#undef OF_SIZE
    }
}

static void FN(sparse_product)(const sparse_lines *lines, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t n_classes,
                               const void *M, ptrdiff_t ld, int squares, const sparse_sink *sink)
{
    if (squares)
        FN(sparse_classes)(1, lines, begin, end, n_classes, (const T *)M, ld, sink);
    else
        FN(sparse_classes)(0, lines, begin, end, n_classes, (const T *)M, ld, sink);
}

/* ---- sums over rows, row after row ------------------------------------------------------------- */

/* The classes of one tile. A product of two floats is exact in a double, so that nothing is rounded but the sum.
 * Per entry: n_vectors loads, multiplications, sums and stores of doubles. */
INLINE void FN(add_tile)(const int n_vectors, const int squares, const sparse_lines *rows, const T *M, ptrdiff_t ld,
                         ptrdiff_t n_last, double *sums, ptrdiff_t n_classes)
{
    const T *values = (const T *)rows->values;
    const ptrdiff_t n_entries = (ptrdiff_t)rows->starts[rows->n_lines];
    for (ptrdiff_t i = 0; i < rows->n_lines; i++, M += ld) {
        double wide[SPARSE_VECTORS * f64_lanes] = {0};
        f64_vector factors[SPARSE_VECTORS];
        int counts = 0;
        for (ptrdiff_t k = 0; k < (n_vectors - 1) * f64_lanes + n_last; k++) {
            wide[k] = (double)M[k];
            counts |= M[k] != 0;
        }
        if (!counts) /* its values may be anything */
            continue;
        for (int v = 0; v < n_vectors; v++)
            factors[v] = f64_load_f64(wide + v * f64_lanes);
        for (ptrdiff_t e = (ptrdiff_t)rows->starts[i]; e < rows->starts[i + 1]; e++) {
            if (e + ENTRIES_AHEAD < n_entries) {
                const double *later = sums + (ptrdiff_t)rows->at[e + ENTRIES_AHEAD] * n_classes;
                for (int v = 0; v < n_vectors; v += 8 / f64_lanes)
                    __builtin_prefetch(later + v * f64_lanes, 1, 3);
            }
            double *sum = sums + (ptrdiff_t)rows->at[e] * n_classes;
            const double value = (double)values[e], x = squares ? value * value : value;
            for (int v = 0; v < n_vectors - 1; v++)
                f64_store_first(sum + v * f64_lanes, f64_load_f64(sum + v * f64_lanes) + factors[v] * x, f64_lanes);
            sum += (n_vectors - 1) * f64_lanes;
            f64_store_first(sum, f64_load_first(sum, n_last, (f64_vector){0}) + factors[n_vectors - 1] * x, n_last);
        }
    }
}

INLINE void FN(add_classes)(const int squares, const sparse_lines *rows, ptrdiff_t n_classes, const T *M, ptrdiff_t ld,
                            double *sums)
{
    enum { TILE = SPARSE_VECTORS * f64_lanes };
    for (ptrdiff_t k = 0; k < n_classes; k += TILE) {
        const ptrdiff_t n = n_classes - k < TILE ? n_classes - k : TILE;
        const ptrdiff_t n_vectors = (n + f64_lanes - 1) / f64_lanes, n_last = n - (n_vectors - 1) * f64_lanes;
#define OF_SIZE(size) FN(add_tile)(size, squares, rows, M + k, ld, n_last, sums + k, n_classes)
        switch (n_vectors) {
            CASE(1, OF_SIZE) CASE(2, OF_SIZE) CASE(3, OF_SIZE) CASE(4, OF_SIZE)
            CASE(5, OF_SIZE) CASE(6, OF_SIZE) CASE(7, OF_SIZE) CASE(8, OF_SIZE)
        }
#undef OF_SIZE
    }
}

static void FN(sparse_add)(const sparse_lines *rows, ptrdiff_t n_classes, const void *M, ptrdiff_t ld, int squares,
                           double *sums)
{
    if (squares)
        FN(add_classes)(1, rows, n_classes, (const T *)M, ld, sums);
    else
        FN(add_classes)(0, rows, n_classes, (const T *)M, ld, sums);
}
