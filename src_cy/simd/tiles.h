/* The two matrix products, for one way of storing X: included with S (the stored type) and SOURCE.
 * X is converted to the compute type on its way into a register and never stored as a float. */
#define SUFFIX PASTE(SOURCE, TYPE)
#define TILE(name) PASTE(name, SUFFIX)
#define LOAD VOP(PASTE(load, SOURCE))

/* The features left over after the last whole vector. With at least one vector of features, that vector is
 * read again at the row's end with the lanes already seen blanked out: never a byte outside of the row. */
typedef struct {
    ptrdiff_t whole;  /* features in whole vectors */
    ptrdiff_t left;   /* features after them */
    ptrdiff_t from;   /* where the last vector is read, or -1: fewer than LANES features in all */
    I fresh;          /* its lanes that `whole` does not cover */
} TILE(tail);

INLINE TILE(tail) TILE(tail_of)(ptrdiff_t n_features)
{
    TILE(tail) t = {.left = n_features % LANES};
    t.whole = n_features - t.left;
    t.from = t.whole ? n_features - LANES : -1;
    for (int lane = 0; lane < LANES; lane++)
        t.fresh[lane] = lane >= LANES - t.left ? -1 : 0;
    return t;
}
INLINE V TILE(load_tail)(const S *row, const TILE(tail) *t)
{
    if (t->from >= 0)
        return (V)((I)LOAD(row + t->from) & t->fresh);
    S few[LANES] = {0};
    memcpy(few + LANES - t->left, row, (size_t)t->left * sizeof(S));
    return LOAD(few);
}
INLINE V TILE(load_weights_tail)(const T *w, const TILE(tail) *t)
{
    if (t->from >= 0)
        return (V)((I)FN(load)(w + t->from) & t->fresh);
    T few[LANES] = {0};
    memcpy(few + LANES - t->left, w, (size_t)t->left * sizeof(T));
    return FN(load)(few);
}

/* FORWARD_ROWS rows by n_classes <= FORWARD_CLASSES classes of accumulators, along the features.
 * Per vector of features: ROWS + CLASSES loads, ROWS conversions, ROWS * CLASSES multiply-adds. */
INLINE void TILE(forward_tile)(const int n_classes, const S *const rows[FORWARD_ROWS], ptrdiff_t n_rows,
                               const TILE(tail) *tail, const T *W, ptrdiff_t ldw, const T *b, T scale,
                               T *logits, ptrdiff_t row_stride, ptrdiff_t class_stride)
{
    enum { ROWS = FORWARD_ROWS };
    V sums[ROWS * FORWARD_CLASSES + 3] = {{0}}; /* whole fours for sum4 */
    for (ptrdiff_t j = 0; j < tail->whole; j += LANES) {
        V x[ROWS];
        for (int r = 0; r < ROWS; r++)
            x[r] = LOAD(rows[r] + j);
        for (int c = 0; c < n_classes; c++) {
            const V w = FN(load)(W + c * ldw + j);
            for (int r = 0; r < ROWS; r++)
                sums[c * ROWS + r] = VOP(fma)(x[r], w, sums[c * ROWS + r]);
        }
    }
    if (tail->left)
        for (int c = 0; c < n_classes; c++) {
            const V w = TILE(load_weights_tail)(W + c * ldw, tail);
            for (int r = 0; r < ROWS; r++)
                sums[c * ROWS + r] = VOP(fma)(TILE(load_tail)(rows[r], tail), w, sums[c * ROWS + r]);
        }
    T dots[ROWS * FORWARD_CLASSES + 3];
    for (int t = 0; t < n_classes * ROWS; t += 4)
        VOP(sum4)(sums + t, dots + t);
    for (int c = 0; c < n_classes; c++)
        for (int r = 0; r < n_rows; r++)
            logits[r * row_stride + c * class_stride] = scale * dots[c * ROWS + r] + b[c];
}

/* 2 n_rows n_features n_classes FLOP. A group of classes stays in the first cache while all rows pass by. */
static void TILE(forward)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t n_features, const void *W_,
                          const void *b_, ptrdiff_t n_classes, double scale, void *logits_,
                          ptrdiff_t row_stride, ptrdiff_t class_stride)
{
    const TILE(tail) tail = TILE(tail_of)(n_features);
    /* groups of nearly equal size: 12 classes are 4 + 4 + 4, not 5 + 5 + 2 */
    const ptrdiff_t n_groups = (n_classes + FORWARD_CLASSES - 1) / FORWARD_CLASSES;
    for (ptrdiff_t group = 0; group < n_groups; group++) {
        const ptrdiff_t k = n_classes * group / n_groups;
        const int group_size = (int)(n_classes * (group + 1) / n_groups - k);
        const T *W = (const T *)W_ + k * n_features, *b = (const T *)b_ + k;
        for (ptrdiff_t i = 0; i < n_rows; i += FORWARD_ROWS) {
            const ptrdiff_t n = n_rows - i < FORWARD_ROWS ? n_rows - i : FORWARD_ROWS;
            const S *tile_rows[FORWARD_ROWS]; /* past the end: the last row again, its result dropped */
            for (int r = 0; r < FORWARD_ROWS; r++)
                tile_rows[r] = rows[r < n ? i + r : n_rows - 1];
            T *logits = (T *)logits_ + i * row_stride + k * class_stride;
#define CASE(size)                                                                                   \
    case size:                                                                                       \
        TILE(forward_tile)(size, tile_rows, n, &tail, W, n_features, b, (T)scale, logits, row_stride, \
                           class_stride);                                                            \
        break;
            switch (group_size) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) }
#undef CASE
        }
    }
}

/* n_classes x n_vectors accumulators over the rows: features j .. j + n_vectors * LANES, or the tail. */
INLINE void TILE(gradient_tile)(const int n_classes, const int n_vectors, const TILE(tail) *tail,
                                const S *const *rows, ptrdiff_t n_rows, ptrdiff_t j, const T *dlogits,
                                ptrdiff_t ld, T scale, const gradient_sink *sink, ptrdiff_t at,
                                ptrdiff_t n_features)
{
    enum { CHUNK = 256 }; /* rows summed one by one before they join the total: keeps rounding small */
    V totals[GRADIENT_CLASSES][GRADIENT_VECTORS] = {{{0}}};
    for (ptrdiff_t begin = 0; begin < n_rows; begin += CHUNK) {
        const ptrdiff_t end = n_rows - begin < CHUNK ? n_rows : begin + CHUNK;
        V sums[GRADIENT_CLASSES][GRADIENT_VECTORS] = {{{0}}};
        for (ptrdiff_t i = begin; i < end; i++) {
            V x[GRADIENT_VECTORS];
            for (int v = 0; v < n_vectors; v++)
                x[v] = tail ? TILE(load_tail)(rows[i], tail) : LOAD(rows[i] + j + v * LANES);
            for (int c = 0; c < n_classes; c++) {
                const V d = FN(all)(dlogits[c * ld + i]);
                for (int v = 0; v < n_vectors; v++)
                    sums[c][v] = VOP(fma)(d, x[v], sums[c][v]);
            }
        }
        for (int c = 0; c < n_classes; c++)
            for (int v = 0; v < n_vectors; v++)
                totals[c][v] += sums[c][v];
    }
    for (int c = 0; c < n_classes; c++)
        for (int v = 0; v < n_vectors; v++) {
            V g = totals[c][v] * scale;
            if (tail) { /* its features sit in the last lanes: bring them to the front */
                T lanes[2 * LANES] = {0};
                FN(store)(lanes, g);
                g = FN(load)(lanes + LANES - tail->left);
            }
            FN(into_sink)(sink, at + c * n_features + j + v * LANES, tail ? tail->left : LANES, g);
        }
}

INLINE void TILE(gradient_classes)(const int group_size, const S *const *rows, ptrdiff_t n_rows,
                                   const TILE(tail) *tail, ptrdiff_t begin, ptrdiff_t end,
                                   const T *dlogits, ptrdiff_t ld, T scale, const gradient_sink *sink,
                                   ptrdiff_t at, ptrdiff_t n_features)
{
    enum { WIDE = GRADIENT_VECTORS * LANES };
    const ptrdiff_t whole_end = end < tail->whole ? end : tail->whole;
    ptrdiff_t j = begin;
    for (; j + WIDE <= whole_end; j += WIDE)
        TILE(gradient_tile)(group_size, GRADIENT_VECTORS, NULL, rows, n_rows, j, dlogits, ld, scale, sink, at,
                            n_features);
    for (; j < whole_end; j += LANES)
        TILE(gradient_tile)(group_size, 1, NULL, rows, n_rows, j, dlogits, ld, scale, sink, at, n_features);
    if (end == n_features && tail->left)
        TILE(gradient_tile)(group_size, 1, tail, rows, n_rows, tail->whole, dlogits, ld, scale, sink, at,
                            n_features);
}

/* 2 n_rows (end - begin) n_classes FLOP; begin is a multiple of LANES, end is another or n_features. */
static void TILE(gradient)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t n_features, ptrdiff_t begin,
                           ptrdiff_t end, const void *dlogits_, ptrdiff_t ld, ptrdiff_t n_classes,
                           double scale, const gradient_sink *sink)
{
    const TILE(tail) tail = TILE(tail_of)(n_features);
    const ptrdiff_t n_groups = (n_classes + GRADIENT_CLASSES - 1) / GRADIENT_CLASSES;
    for (ptrdiff_t group = 0; group < n_groups; group++) {
        const ptrdiff_t k = n_classes * group / n_groups;
        const int group_size = (int)(n_classes * (group + 1) / n_groups - k);
        const T *dlogits = (const T *)dlogits_ + k * ld;
#define CASE(size)                                                                                    \
    case size:                                                                                        \
        TILE(gradient_classes)(size, (const S *const *)rows, n_rows, &tail, begin, end, dlogits, ld,  \
                               (T)scale, sink, k * n_features, n_features);                           \
        break;
        switch (group_size) {
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5)
#if GRADIENT_CLASSES > 5
            CASE(6) CASE(7) CASE(8) CASE(9) CASE(10)
#endif
        }
#undef CASE
    }
}

#undef SUFFIX
#undef TILE
#undef LOAD
#undef SOURCE
#undef S
