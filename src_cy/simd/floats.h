/* Multiplying X as floats, for one stored type: included with S (the type) and STORED (its name). Both matrix products
 * convert X to the compute type on its way into a register, or into a panel that stays in cache. */
#define SUFFIX PASTE(STORED, TYPE)
#define FROM(name) PASTE(name, SUFFIX)
#define LOAD VOP(PASTE(load, STORED))

/* The first n < LANES items at p, zeros after them. */
INLINE V FROM(load_short)(const S *p, ptrdiff_t n)
{
    if (sizeof(S) == sizeof(T)) /* the same type */
        return FN(load_first)((const void *)p, n, 0);
    S few[LANES] = {0};
    memcpy(few, p, (size_t)n * sizeof(S));
    return LOAD(few);
}

/* panel[j][r] = X[r][begin + j] for n features of WIDE rows, transposed LANES x LANES at a time.
 * The last row stands in for those after it: their logits are computed and dropped.
 * As many bytes of the rows that come next are fetched as are read of these. */
static void FROM(pack_transposed)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t begin, ptrdiff_t n,
                                  T *panel, upcoming *next)
{
    enum { LINES = LANES * LANES * sizeof(S) / 64 };
    for (ptrdiff_t r = 0; r < WIDE && r < n_rows; r += LANES) {
        const S *lane_rows[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            const ptrdiff_t row = r + lane < n_rows ? r + lane : n_rows - 1;
            lane_rows[lane] = rows[row];
        }
        ptrdiff_t j = 0;
#if defined(PACK_WHOLE)
        for (; j + 64 <= n; j += 64) {
            PACK_WHOLE(lane_rows, begin + j, panel + j * WIDE + r, WIDE);
            fetch_lines(next, LANES);
        }
#endif
        for (; j < n; j += LANES) {
            /* the last few features are read together with those before them, never past the row's end */
            const ptrdiff_t left = n - j < LANES ? n - j : LANES, from = begin + j + left - LANES;
            V v[LANES];
            for (int lane = 0; lane < LANES; lane++)
                v[lane] = from >= 0 ? LOAD(lane_rows[lane] + from) : FROM(load_short)(lane_rows[lane], left);
            VOP(transpose)(v);
            const ptrdiff_t seen = from >= 0 ? LANES - left : 0;
            for (ptrdiff_t t = 0; t < left; t++)
                FN(store)(panel + (j + t) * WIDE + r, v[seen + t]);
            fetch_lines(next, LINES > 1 ? LINES : 1);
        }
    }
}

/* 2 n_rows n_features n_classes FLOP. A panel of PANEL features stays in cache while all classes pass by. */
static void FROM(panels)(const x_rows *x, const linear_map *map, void *logits, ptrdiff_t ld, void *panel_)
{
    const void *const *rows = x->rows;
    const ptrdiff_t n_rows = x->n_rows, n_features = x->n_features, n_classes = map->n_classes;
    const T *W = map->W, *b = map->b, scale = (T)map->scale;
    T *panel = panel_;
    ptrdiff_t begin = 0;
    upcoming next_rows = {x->later, x->n_later, 0, n_features * (ptrdiff_t)sizeof(S), 0};
    do { /* once at least: without features, logits = b */
        const ptrdiff_t n = n_features - begin < PANEL ? n_features - begin : PANEL;
        const int last = begin + n == n_features;
        for (ptrdiff_t i = 0; i < n_rows; i += WIDE)
            FROM(pack_transposed)(rows + i, n_rows - i, begin, n, panel + i * PANEL, &next_rows);
        for (ptrdiff_t k = 0, next; k < n_classes; k = next) {
            next = FN(group_end)(k, n_classes, TILE_CLASSES);
            for (ptrdiff_t i = 0; i < n_rows; i += WIDE)
                FN(forward_tile)((int)(next - k), n_rows - i, W + k * n_features + begin, n_features,
                                 panel + i * PANEL, n, begin == 0, last, scale, b + k, (T *)logits + k * ld + i, ld);
        }
        begin += n;
    } while (begin < n_features);
}

/* sums[c][r] = W[c] . X[r] over n features from `begin` on, lane by lane. A vector of features takes n_rows
 * conversions, n_classes loads and n_rows n_classes multiply-adds; before each step of DOT_STEP vectors, `lines` of the
 * rows that come next are fetched. Where there are fewer classes, the last stands in for the others. */
INLINE void FROM(dot_tile_of)(const int n_classes, const int n_rows, int n_there, const void *const *rows,
                              ptrdiff_t begin, ptrdiff_t n, const T *W, ptrdiff_t ldw, V (*sums)[LANES], upcoming *next,
                              int lines)
{
    V totals[TILE_CLASSES][DOT_ROWS], converted[DOT_ROWS];
    const ptrdiff_t whole = n / LANES * LANES;
    const S *x[DOT_ROWS];
    const T *w_of[TILE_CLASSES];
    for (int r = 0; r < n_rows; r++)
        x[r] = (const S *)rows[r] + begin;
    for (int c = 0; c < n_classes; c++)
        w_of[c] = W + (c < n_there ? c : n_there - 1) * ldw;
    for (int c = 0; c < n_classes; c++)
        for (int r = 0; r < n_rows; r++)
            totals[c][r] = (V){0};
#define MULTIPLY_ADD(features_of_x, features_of_w)                                                     \
    for (int r = 0; r < n_rows; r++)                                                                   \
        converted[r] = features_of_x;                                                                  \
    for (int c = 0; c < n_classes; c++) {                                                              \
        V w = features_of_w;                                                                           \
        IN_REGISTER(w);                                                                                \
        for (int r = 0; r < n_rows; r++)                                                               \
            totals[c][r] = VOP(fma)(w, converted[r], totals[c][r]);                                      \
    }
    for (ptrdiff_t step = 0; step < whole; step += DOT_STEP * LANES) {
        const ptrdiff_t end = step + DOT_STEP * LANES < whole ? step + DOT_STEP * LANES : whole;
        fetch_lines(next, lines);
        for (ptrdiff_t j = step; j < end; j += LANES) {
            MULTIPLY_ADD(LOAD(x[r] + j), FN(load)(w_of[c] + j))
        }
    }
    if (whole < n) {
        MULTIPLY_ADD(FROM(load_short)(x[r] + whole, n - whole), FN(load_first)(w_of[c] + whole, n - whole, 0))
    }
#undef MULTIPLY_ADD
    for (int c = 0; c < n_classes; c++)
        for (int r = 0; r < n_rows; r++)
            sums[c][r] = totals[c][r];
}

/* Returns how many of the n_rows it has done: DOT_ROWS, or 1 if fewer are left. */
static int FROM(dot_tile)(int n_classes, ptrdiff_t n_rows, const void *const *rows, ptrdiff_t begin, ptrdiff_t n,
                          const T *W, ptrdiff_t ldw, V (*sums)[LANES], upcoming *next, int lines)
{
#define TILE_OF(size) FROM(dot_tile_of)(size, DOT_ROWS, size, rows, begin, n, W, ldw, sums, next, lines)
    if (DOT_ROWS > 1 && n_rows >= DOT_ROWS) {
        FOR_DOT_SIZE(n_classes, TILE_OF)
        return DOT_ROWS;
    }
    /* one row: not worth a case for each size */
    if (DOT_TILE_CLASSES < TILE_CLASSES && n_classes <= DOT_TILE_CLASSES)
        FROM(dot_tile_of)(DOT_TILE_CLASSES, 1, n_classes, rows, begin, n, W, ldw, sums, next, lines);
    else
        FROM(dot_tile_of)(TILE_CLASSES, 1, n_classes, rows, begin, n, W, ldw, sums, next, lines);
    return 1;
#undef TILE_OF
}

/* Logits as dot products of rows as they lie: nothing is transposed. What a tile reads of W stays in L1 while all rows
 * pass by. */
static void FROM(dots)(const x_rows *x, const linear_map *map, void *logits, ptrdiff_t ld)
{
    const void *const *rows = x->rows;
    const ptrdiff_t n_rows = x->n_rows, n_features = x->n_features, n_classes = map->n_classes;
    const T *W = map->W, *b = map->b, scale = (T)map->scale;
    const ptrdiff_t tile_classes = n_rows < DOT_ROWS ? TILE_CLASSES : DOT_TILE_CLASSES;
    const ptrdiff_t n_groups = (n_classes + tile_classes - 1) / tile_classes;
    const ptrdiff_t lines = DOT_ROWS * DOT_STEP * LANES * (ptrdiff_t)sizeof(S) / 64; /* of a step of all rows */
    const int lines_at_once = (int)((lines + n_groups - 1) / n_groups);
    ptrdiff_t begin = 0;
    upcoming next_rows = {x->later, x->n_later, 0, n_features * (ptrdiff_t)sizeof(S), 0};
    do { /* once at least: without features, logits = b */
        const ptrdiff_t n = n_features - begin < DOT_FEATURES ? n_features - begin : DOT_FEATURES;
        for (ptrdiff_t k = 0, next; k < n_classes; k = next) {
            next = FN(group_end)(k, n_classes, tile_classes);
            for (ptrdiff_t i = 0; i < n_rows; i += LANES) {
                const ptrdiff_t n_lanes = n_rows - i < LANES ? n_rows - i : LANES;
                V sums[TILE_CLASSES][LANES];
                for (ptrdiff_t r = 0; r < n_lanes;)
                    r += FROM(dot_tile)((int)(next - k), n_lanes - r, rows + i + r, begin, n,
                                        W + k * n_features + begin, n_features, (V(*)[LANES])&sums[0][r], &next_rows,
                                        lines_at_once);
                for (int c = 0; c < next - k; c++)
                    FN(fold_logits)(n_lanes, sums[c], begin == 0, begin + n == n_features, scale, b[k + c],
                                    (T *)logits + (k + c) * ld + i);
            }
        }
        begin += n;
    } while (begin < n_features);
}

static int FROM(forward)(const x_rows *x, const linear_map *map, void *logits, ptrdiff_t ld, void *panel)
{
    if (map->by_dots)
        FROM(dots)(x, map, logits, ld);
    else
        FROM(panels)(x, map, logits, ld, panel);
    return 1;
}

/* panel[i][t] = X[i][begin + t] for n <= WIDE features, zeros after them. */
static void FROM(pack)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t begin, ptrdiff_t n, T *panel)
{
    for (ptrdiff_t i = 0; i < n_rows; i++)
        for (ptrdiff_t t = 0; t < WIDE; t += LANES) {
            const S *p = (const S *)rows[i] + begin + t;
            FN(store)(panel + i * WIDE + t,
                      t + LANES <= n ? LOAD(p) : t < n ? FROM(load_short)(p, n - t) : (V){0});
        }
}

/* sums[c][v] += dlogits[c * ld + i] * X[i][j + ..] over n rows, X straight from where it is stored */
INLINE void FROM(accumulate_rows)(const int n_classes, const T *dlogits, ptrdiff_t ld,
                                  const void *const *rows, ptrdiff_t n, ptrdiff_t j,
                                  V sums[TILE_CLASSES][TILE_VECTORS])
{
    for (ptrdiff_t i = 0; i < n; i++) {
        V x[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; v++)
            x[v] = LOAD((const S *)rows[i] + j + v * LANES);
        for (int c = 0; c < n_classes; c++) {
            const V d = FN(all)(dlogits[c * ld + i]);
            for (int v = 0; v < TILE_VECTORS; v++)
                sums[c][v] = VOP(fma)(d, x[v], sums[c][v]);
        }
    }
}

INLINE void FROM(gradient_tile_of)(const int n_classes, const T *dlogits, ptrdiff_t ld,
                                   const void *const *rows, ptrdiff_t n_rows, ptrdiff_t j,
                                   V totals[TILE_CLASSES][TILE_VECTORS])
{
    ptrdiff_t i = 0;
    do { /* once at least: no rows, totals of 0 */
        const ptrdiff_t n = n_rows - i < CHUNK ? n_rows - i : CHUNK;
        V sums[TILE_CLASSES][TILE_VECTORS];
        FN(clear)(n_classes, TILE_VECTORS, sums);
        FROM(accumulate_rows)(n_classes, dlogits + i, ld, rows + i, n, j, sums);
        for (int c = 0; c < n_classes; c++)
            for (int v = 0; v < TILE_VECTORS; v++)
                totals[c][v] = i > 0 ? totals[c][v] + sums[c][v] : sums[c][v];
    } while ((i += CHUNK) < n_rows);
}

static void FROM(gradient_tile)(int n_classes, const T *dlogits, ptrdiff_t ld, const void *const *rows,
                                ptrdiff_t n_rows, ptrdiff_t j, V totals[TILE_CLASSES][TILE_VECTORS])
{
#define TILE_OF(size) FROM(gradient_tile_of)(size, dlogits, ld, rows, n_rows, j, totals)
    FOR_SIZE(n_classes, TILE_OF)
#undef TILE_OF
}

/* 2 n_rows (end - begin) n_classes FLOP. With few classes X is read once or twice, as it is stored; with many, and for
 * the last few features, WIDE features of all rows are first converted into a panel. */
static int FROM(gradient)(const x_rows *x, ptrdiff_t begin, ptrdiff_t end, const void *dlogits_, ptrdiff_t ld,
                          ptrdiff_t n_classes, const gradient_sink *sink, void *panel)
{
    const void *const *rows = x->rows;
    const ptrdiff_t n_rows = x->n_rows, n_features = x->n_features;
    const T scale = (T)sink->scale;
    for (ptrdiff_t j = begin; j < end; j += WIDE) {
        const ptrdiff_t n = end - j < WIDE ? end - j : WIDE;
        const int packed = n < WIDE || n_classes > 2 * TILE_CLASSES;
        if (packed)
            FROM(pack)(rows, n_rows, j, n, panel);
        for (ptrdiff_t k = 0, next; k < n_classes; k = next) {
            next = FN(group_end)(k, n_classes, TILE_CLASSES);
            const T *dlogits = (const T *)dlogits_ + k * ld;
            V totals[TILE_CLASSES][TILE_VECTORS];
            for (int c = 0; c < next - k && !sink->first; c++) /* what these sums will join */
                for (ptrdiff_t t = 0; t < n; t += LANES)
                    __builtin_prefetch((const T *)sink->gradient + (k + c) * n_features + j + t, 1, 3);
            if (packed)
                FN(gradient_tile)((int)(next - k), dlogits, ld, panel, n_rows, totals);
            else
                FROM(gradient_tile)((int)(next - k), dlogits, ld, rows, n_rows, j, totals);
            for (int c = 0; c < next - k; c++)
                for (ptrdiff_t t = 0; t < n; t += LANES) {
                    const ptrdiff_t at = (k + c) * n_features + j + t, length = n - t < LANES ? n - t : LANES;
                    FN(into_sink)(sink, at, length, FN(from_sink)(sink, at, length) + totals[c][t / LANES], scale);
                }
        }
    }
    return 1;
}

static const way_of_multiplying FROM(floats) = {
    .most_features = PTRDIFF_MAX, .speed = 1, .classes_at_once = 1, .forward_fetches = FETCH_ALL,
    .row_bytes = no_row_bytes, .weights_bytes = no_weights_bytes, .forward_bytes = FN(forward_bytes),
    .gradient_bytes = FN(gradient_bytes), .forward = FROM(forward), .gradient = FROM(gradient)};

#if defined(X_TERMS)
#include "bfloats_amx.h"
#endif

#undef SUFFIX
#undef FROM
#undef LOAD
#undef PACK_WHOLE
#undef STORED
#undef S
