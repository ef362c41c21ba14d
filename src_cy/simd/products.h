/* Where a gradient goes; and both matrix products of floats, once X is in a panel. */

/* ---- gradients --------------------------------------------------------------------------------- */

/* The sums so far, without the rows at hand: of up to LANES parameters from number `at` on. */
INLINE V FN(from_sink)(const gradient_sink *sink, ptrdiff_t at, ptrdiff_t n)
{
    return sink->first ? (V){0} : FN(load_first)((const T *)sink->gradient + at, n, 0);
}

/* The sums with the rows at hand go where the sink says: back to the sums so far or, if these rows are the last, scaled
 * into the gradient or into W. */
INLINE void FN(into_sink)(const gradient_sink *sink, ptrdiff_t at, ptrdiff_t n, V g, T scale)
{
    if (sink->last)
        g *= scale;
    if (!sink->last || !sink->W) {
        FN(store_first)((T *)sink->gradient + at, g, n);
        return;
    }
    T *W = (T *)sink->W + at;
    const V w = FN(load_first)(W, n, 0);
    V change = g + w * (T)sink->weight_decay;
    if (sink->velocity) {
        T *velocity = (T *)sink->velocity + at;
        const V v = FN(load_first)(velocity, n, 0) * (T)sink->momentum + change;
        FN(store_first)(velocity, v, n);
        change = sink->nesterov ? change + v * (T)sink->momentum : v;
    }
    FN(store_first)(W, w - change * (T)sink->learning_rate, n);
}

static void FN(bias_gradient)(ptrdiff_t n_rows, const void *dlogits, ptrdiff_t ld, ptrdiff_t n_classes,
                              const gradient_sink *sink)
{
    for (ptrdiff_t k = 0; k < n_classes; k++) {
        const T *column = (const T *)dlogits + k * ld;
        V total = FN(from_sink)(sink, k, 1);
        for (ptrdiff_t begin = 0; begin < n_rows; begin += CHUNK) {
            const ptrdiff_t end = n_rows - begin < CHUNK ? n_rows : begin + CHUNK;
            V chunk = {0};
            ptrdiff_t i = begin;
            for (; i + LANES <= end; i += LANES)
                chunk += FN(load)(column + i);
            if (i < end)
                chunk += FN(load_first)(column + i, end - i, 0);
            total += FN(sum_lanes)(chunk);
        }
        FN(into_sink)(sink, k, 1, total, (T)sink->scale);
    }
}

static void FN(add_partials)(const void *partials, ptrdiff_t partial_size, ptrdiff_t n_partials, ptrdiff_t begin,
                             ptrdiff_t end, const gradient_sink *sink)
{
    const T scale = (T)sink->scale;
    for (ptrdiff_t at = begin; at < end; at += LANES) {
        const ptrdiff_t n = end - at < LANES ? end - at : LANES;
        V g = FN(load_first)((const T *)partials + at, n, 0);
        for (ptrdiff_t p = 1; p < n_partials; p++)
            g += FN(load_first)((const T *)partials + p * partial_size + at, n, 0);
        FN(into_sink)(sink, at, n, g, scale);
    }
}

/* Cost: n (level + 2) doubles of memory. By blocks, which the compiler keeps in registers and L1. */
static void FN(join_tree)(const void *sums, ptrdiff_t n, double *nodes, ptrdiff_t stride, int level)
{
    enum { BLOCK = 64 };
    double block[BLOCK];
    for (ptrdiff_t at = 0; at < n; at += BLOCK) {
        const ptrdiff_t size = n - at < BLOCK ? n - at : BLOCK;
        const T *restrict from = (const T *)sums + at;
        for (ptrdiff_t i = 0; i < size; i++)
            block[i] = (double)from[i];
        for (int l = 0; l < level; l++) {
            const double *restrict left = nodes + l * stride + at;
            for (ptrdiff_t i = 0; i < size; i++)
                block[i] = left[i] + block[i];
        }
        double *restrict node = nodes + level * stride + at;
        for (ptrdiff_t i = 0; i < size; i++)
            node[i] = block[i];
    }
}

/* ---- the scratch of floats --------------------------------------------------------------------- */

static ptrdiff_t FN(forward_bytes)(ptrdiff_t n_rows, ptrdiff_t n_features)
{
    (void)n_features;
    return (n_rows + 31) / 32 * 32 * FORWARD_PANEL * (ptrdiff_t)sizeof(T);
}

static ptrdiff_t FN(gradient_bytes)(ptrdiff_t n_rows, ptrdiff_t n_classes)
{
    (void)n_classes;
    return GRADIENT_PANEL * n_rows * (ptrdiff_t)sizeof(T);
}

/* ---- matrix products --------------------------------------------------------------------------- */

/* Classes k .. group_end(k) share a tile. Groups are of nearly equal size: 12 classes are 6 + 6, not 10 + 2. */
INLINE ptrdiff_t FN(group_end)(ptrdiff_t k, ptrdiff_t n_classes, ptrdiff_t most)
{
    const ptrdiff_t n_groups = (n_classes - k + most - 1) / most;
    return k + (n_classes - k + n_groups - 1) / n_groups;
}

/* One by one: an initializer of all would be memory first, and only then registers. */
INLINE void FN(clear)(const int n_classes, const int n_vectors, V sums[TILE_CLASSES][TILE_VECTORS])
{
    for (int c = 0; c < n_classes; c++)
        for (int v = 0; v < n_vectors; v++)
            sums[c][v] = (V){0};
}

/* sums[c][v] += a[c * lda + t] * panel[t][v] over t: one loop serves both products,
 *   forward:  t runs over features, a is W,       the panel's lanes are rows of X,
 *   gradient: t runs over rows,     a is dlogits, the panel's lanes are features.
 * Per t: n_vectors loads, n_classes broadcasts, their product of multiply-adds. */
INLINE void FN(accumulate)(const int n_classes, const int n_vectors, const T *a, ptrdiff_t lda, const T *panel,
                           ptrdiff_t n, V sums[TILE_CLASSES][TILE_VECTORS])
{
    for (ptrdiff_t t = 0; t < n; t++) {
        V x[TILE_VECTORS];
        for (int v = 0; v < n_vectors; v++)
            x[v] = FN(load)(panel + t * WIDE + v * LANES);
        for (int c = 0; c < n_classes; c++) {
            const V d = FN(all)(a[c * lda + t]);
            for (int v = 0; v < n_vectors; v++)
                sums[c][v] = VOP(fma)(d, x[v], sums[c][v]);
        }
    }
}

INLINE void FN(forward_tile_of)(const int n_classes, const int n_vectors, const T *W, ptrdiff_t ldw,
                                const T *panel, ptrdiff_t n, int first, int last, T scale, const T *b, T *logits,
                                ptrdiff_t ld)
{
    V sums[TILE_CLASSES][TILE_VECTORS];
    FN(clear)(n_classes, n_vectors, sums);
    FN(accumulate)(n_classes, n_vectors, W, ldw, panel, n, sums);
    for (int c = 0; c < n_classes; c++)
        for (int v = 0; v < n_vectors; v++) {
            T *to = logits + c * ld + v * LANES;
            const V sum = first ? sums[c][v] : FN(load)(to) + sums[c][v];
            FN(store)(to, last ? sum * scale + b[c] : sum);
        }
}

static void FN(forward_tile)(int n_classes, ptrdiff_t n_rows, const T *W, ptrdiff_t ldw, const T *panel,
                             ptrdiff_t n, int first, int last, T scale, const T *b, T *logits, ptrdiff_t ld)
{
#define TILE_OF(size) FN(forward_tile_of)(size, TILE_VECTORS, W, ldw, panel, n, first, last, scale, b, logits, ld)
#define NARROW_TILE_OF(size) FN(forward_tile_of)(size, 1, W, ldw, panel, n, first, last, scale, b, logits, ld)
    if (n_rows > LANES)
        FOR_SIZE(n_classes, TILE_OF)
    else /* rows for one vector are half the work */
        FOR_SIZE(n_classes, NARROW_TILE_OF)
#undef TILE_OF
#undef NARROW_TILE_OF
}

/* logits[i] = the sum of sums[i]'s lanes, as sum_lanes adds them, for up to LANES rows; unless `first`, the sum joins
 * what is there. */
INLINE void FN(fold_logits)(ptrdiff_t n_rows, V sums[LANES], int first, int last, T scale, T b, T *logits)
{
    if (n_rows == 1) {
        const T sum = FN(sum_lanes)(sums[0]) + (first ? 0 : *logits);
        *logits = last ? sum * scale + b : sum;
        return;
    }
    for (ptrdiff_t lane = n_rows; lane < LANES; lane++)
        sums[lane] = (V){0};
    const V folded = FN(fold)(sums, 0), sum = first ? folded : FN(load)(logits) + folded;
    FN(store)(logits, last ? sum * scale + b : sum);
}

INLINE void FN(gradient_tile_of)(const int n_classes, const T *dlogits, ptrdiff_t ld, const T *panel,
                                 ptrdiff_t n_rows, V totals[TILE_CLASSES][TILE_VECTORS])
{
    ptrdiff_t i = 0;
    do { /* once at least: no rows, totals of 0 */
        const ptrdiff_t n = n_rows - i < CHUNK ? n_rows - i : CHUNK;
        V sums[TILE_CLASSES][TILE_VECTORS];
        FN(clear)(n_classes, TILE_VECTORS, sums);
        FN(accumulate)(n_classes, TILE_VECTORS, dlogits + i, ld, panel + i * WIDE, n, sums);
        for (int c = 0; c < n_classes; c++)
            for (int v = 0; v < TILE_VECTORS; v++)
                totals[c][v] = i > 0 ? totals[c][v] + sums[c][v] : sums[c][v];
    } while ((i += CHUNK) < n_rows);
}

static void FN(gradient_tile)(int n_classes, const T *dlogits, ptrdiff_t ld, const T *panel, ptrdiff_t n_rows,
                              V totals[TILE_CLASSES][TILE_VECTORS])
{
#define TILE_OF(size) FN(gradient_tile_of)(size, dlogits, ld, panel, n_rows, totals)
    FOR_SIZE(n_classes, TILE_OF)
#undef TILE_OF
}

/* out[c * ld_out + r] = in[r * ld_in + c] */
static void FN(transpose)(ptrdiff_t n_rows, ptrdiff_t n_columns, const void *in_, ptrdiff_t ld_in, void *out_,
                          ptrdiff_t ld_out)
{
    for (ptrdiff_t c = 0; c < n_columns; c += LANES) /* so that few rows of `out` grow at a time */
        for (ptrdiff_t r = 0; r < n_rows; r += LANES) {
            const ptrdiff_t rows = n_rows - r < LANES ? n_rows - r : LANES;
            const ptrdiff_t columns = n_columns - c < LANES ? n_columns - c : LANES;
            const T *in = (const T *)in_ + r * ld_in + c;
            T *out = (T *)out_ + c * ld_out + r;
            V v[LANES];
            for (int lane = 0; lane < LANES; lane++)
                v[lane] = lane < rows ? FN(load_first)(in + lane * ld_in, columns, 0) : (V){0};
            VOP(transpose)(v);
            for (ptrdiff_t t = 0; t < columns; t++)
                FN(store_first)(out + t * ld_out, v[t], rows);
        }
}
