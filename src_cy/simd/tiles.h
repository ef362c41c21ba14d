/* The two matrix products over X, for one way of storing it: included with S (the stored type) and SOURCE.
 * X is converted to the compute type on its way into a register or into a panel that stays in cache. */
#define SUFFIX PASTE(SOURCE, TYPE)
#define TILE(name) PASTE(name, SUFFIX)
#define LOAD VOP(PASTE(load, SOURCE))

/* The first n < LANES items at p, zeros after them. */
INLINE V TILE(load_short)(const S *p, ptrdiff_t n)
{
    if (sizeof(S) == sizeof(T)) /* the same type */
        return FN(load_first)((const void *)p, n, 0);
    S few[LANES] = {0};
    memcpy(few, p, (size_t)n * sizeof(S));
    return LOAD(few);
}

/* panel[j][r] = X[r][begin + j] for n features of WIDE rows, transposed LANES x LANES at a time.
 * Rows past the last are the last again: their logits are computed and dropped.
 * Each step fetches as many bytes of what comes next as it reads. */
static void TILE(pack_transposed)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t begin, ptrdiff_t n,
                                  T *panel, upcoming *next)
{
    enum { STEP_LINES = LANES * LANES * sizeof(S) / 64 };
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
                v[lane] = from >= 0 ? LOAD(lane_rows[lane] + from) : TILE(load_short)(lane_rows[lane], left);
            VOP(transpose)(v);
            const ptrdiff_t seen = from >= 0 ? LANES - left : 0;
            for (ptrdiff_t t = 0; t < left; t++)
                FN(store)(panel + (j + t) * WIDE + r, v[seen + t]);
            fetch_lines(next, STEP_LINES > 1 ? STEP_LINES : 1);
        }
    }
}

/* 2 n_rows n_features n_classes FLOP. A panel of PANEL features stays in cache while all classes pass by. */
static void TILE(forward)(const void *const *rows, const void *const *later, ptrdiff_t n_rows,
                          ptrdiff_t n_features, const void *W, const void *b, ptrdiff_t n_classes,
                          double scale, void *logits, ptrdiff_t ld, void *panel_)
{
    T *panel = panel_;
    ptrdiff_t begin = 0;
    upcoming next_rows = {later, later ? n_rows : 0, 0, n_features * (ptrdiff_t)sizeof(S), 0};
    if (n_rows == 1 && n_features <= PANEL * WIDE - LANES) { /* a lane for each row would waste all but one */
        for (ptrdiff_t j = 0; j < n_features; j += LANES)
            FN(store)(panel + j, j + LANES <= n_features ? LOAD((const S *)rows[0] + j)
                                                         : TILE(load_short)((const S *)rows[0] + j, n_features - j));
        FN(forward_one)(panel, n_features, W, b, n_classes, (T)scale, logits, ld);
        return;
    }
    do { /* once at least: without features, logits = b */
        const ptrdiff_t n = n_features - begin < PANEL ? n_features - begin : PANEL;
        const int last = begin + n == n_features;
        for (ptrdiff_t i = 0; i < n_rows; i += WIDE)
            TILE(pack_transposed)(rows + i, n_rows - i, begin, n, panel + i * PANEL, &next_rows);
        for (ptrdiff_t k = 0, next; k < n_classes; k = next) {
            next = FN(group_end)(k, n_classes);
            for (ptrdiff_t i = 0; i < n_rows; i += WIDE)
                FN(forward_tile)((int)(next - k), n_rows - i, (const T *)W + k * n_features + begin, n_features,
                                 panel + i * PANEL, n, begin == 0, last, (T)scale,
                                 (const T *)b + k, (T *)logits + k * ld + i, ld);
        }
        begin += n;
    } while (begin < n_features);
}

/* panel[i][t] = X[i][begin + t] for the n <= WIDE features of a tile, zeros after them. */
static void TILE(pack)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t begin, ptrdiff_t n, T *panel)
{
    for (ptrdiff_t i = 0; i < n_rows; i++)
        for (ptrdiff_t t = 0; t < WIDE; t += LANES) {
            const S *p = (const S *)rows[i] + begin + t;
            FN(store)(panel + i * WIDE + t,
                      t + LANES <= n ? LOAD(p) : t < n ? TILE(load_short)(p, n - t) : (V){0});
        }
}

/* sums[c][v] += dlogits[c * ld + i] * X[i][j + ..] over n rows, X straight from where it is stored */
INLINE void TILE(accumulate_rows)(const int n_classes, const T *dlogits, ptrdiff_t ld,
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

INLINE void TILE(gradient_tile_of)(const int n_classes, const T *dlogits, ptrdiff_t ld,
                                   const void *const *rows, ptrdiff_t n_rows, ptrdiff_t j,
                                   V totals[TILE_CLASSES][TILE_VECTORS])
{
    for (ptrdiff_t i = 0; i < n_rows; i += CHUNK) {
        const ptrdiff_t n = n_rows - i < CHUNK ? n_rows - i : CHUNK;
        V sums[TILE_CLASSES][TILE_VECTORS] = {{{0}}};
        TILE(accumulate_rows)(n_classes, dlogits + i, ld, rows + i, n, j, sums);
        for (int c = 0; c < n_classes; c++)
            for (int v = 0; v < TILE_VECTORS; v++)
                totals[c][v] += sums[c][v];
    }
}

static void TILE(gradient_tile)(int n_classes, const T *dlogits, ptrdiff_t ld, const void *const *rows,
                                ptrdiff_t n_rows, ptrdiff_t j, V totals[TILE_CLASSES][TILE_VECTORS])
{
#define TILE_OF(size) TILE(gradient_tile_of)(size, dlogits, ld, rows, n_rows, j, totals)
    FOR_SIZE(n_classes, TILE_OF)
#undef TILE_OF
}

/* 2 n_rows (end - begin) n_classes FLOP. With few classes a tile of X is used once or twice and read as it is;
 * with many it is converted into a panel first. */
static void TILE(gradient)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t n_features, ptrdiff_t begin,
                           ptrdiff_t end, const void *dlogits_, ptrdiff_t ld, ptrdiff_t n_classes,
                           double scale, const gradient_sink *sink, void *panel)
{
    for (ptrdiff_t j = begin; j < end; j += WIDE) {
        const ptrdiff_t n = end - j < WIDE ? end - j : WIDE;
        const int packed = n < WIDE || n_classes > 2 * TILE_CLASSES;
        if (packed)
            TILE(pack)(rows, n_rows, j, n, panel);
        for (ptrdiff_t k = 0, next; k < n_classes; k = next) {
            next = FN(group_end)(k, n_classes);
            const T *dlogits = (const T *)dlogits_ + k * ld;
            V totals[TILE_CLASSES][TILE_VECTORS] = {{{0}}};
            for (int c = 0; c < next - k && !sink->first; c++)
                for (ptrdiff_t t = 0; t < n; t += LANES)
                    totals[c][t / LANES] = FN(from_sink)(sink, (k + c) * n_features + j + t,
                                                         n - t < LANES ? n - t : LANES);
            if (packed)
                FN(gradient_tile)((int)(next - k), dlogits, ld, panel, n_rows, totals);
            else
                TILE(gradient_tile)((int)(next - k), dlogits, ld, rows, n_rows, j, totals);
            for (int c = 0; c < next - k; c++)
                for (ptrdiff_t t = 0; t < n; t += LANES)
                    FN(into_sink)(sink, (k + c) * n_features + j + t, n - t < LANES ? n - t : LANES,
                                  totals[c][t / LANES], (T)scale);
        }
    }
}

#if defined(X_TERMS)
#include "bfloats.h"
#endif

#undef SUFFIX
#undef TILE
#undef LOAD
#undef PACK_WHOLE
#undef SOURCE
#undef S
