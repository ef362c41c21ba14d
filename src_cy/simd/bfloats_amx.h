/* Floats by tiles of bfloat16 (AMX): included by floats.h with X_TERMS, how many terms a number of X has.
 *
 * A float is the sum of three numbers of 8 bits, each of them a bfloat16 (a float16, of 11 bits, is the sum of two).
 * The tile unit multiplies 16 x 32 by 32 x 16 of those without rounding and sums in float32, in the time of 32
 * multiply-adds of vectors. Of the nine products of terms the three below 2^-24 of the whole are left out; six
 * remain, at 16 times the speed of floats. Terms below 2^-126 count as 0: numbers below 2^-110 are less exact.
 *
 * Sums go by steps of 32 numbers, which lie in pairs: numbers l and 16 + l share an item of 32 bits. A step of a factor
 * (the left or the right matrix of a product) has two tiles for each of its terms. Terms take half as much memory again
 * as the floats. So they are made for as many rows (or features) as stay in L2, and for one group of classes after the
 * other; unless all classes fit too, a group's are made anew each time. That costs less than products of terms that
 * come from L3, and takes little memory. */

#define BFLOAT(name) FROM(PASTE(bfloat, name))

#if !defined(BFLOAT_STEP)
#define BFLOAT_STEP 32
enum {
    BFLOAT_TERMS = 3,
    BFLOAT_FEATURES = 4096,  /* at most: all are summed one after the other */
    BFLOAT_CLASSES = 32,     /* of a group */
    BFLOAT_ROWS = 128,       /* multiplied with all classes before the next rows, where the terms of W are kept; */
    BFLOAT_MOST_ROWS = 256,  /* and where they are made anew */
    BFLOAT_FEW = 320,        /* classes: up to so many, the terms of all dlogits are kept */
    /* bytes of terms in L2: of X at a time, and of W if they are kept */
    BFLOAT_CACHED = 3 << 18,
    BFLOAT_KEPT = 1 << 20,
};

INLINE ptrdiff_t bfloat_steps(ptrdiff_t n)
{
    return (n + BFLOAT_STEP - 1) / BFLOAT_STEP;
}

/* Bytes of the terms of n_classes times n numbers. */
INLINE ptrdiff_t bfloat_bytes(ptrdiff_t n, ptrdiff_t n_classes)
{
    return (n_classes + BFLOAT_CLASSES - 1) / BFLOAT_CLASSES * bfloat_steps(n) * BFLOAT_TERMS * 2 * TILE_BYTES;
}

/* The first n of 16 floats (all if n is larger, none if it is not above 0), zeros after them. What lies two lines on is
 * fetched: the CPU does not foresee it where one step is read of each of many rows. */
INLINE __m512 bfloat_load(const float *p, ptrdiff_t n)
{
    __builtin_prefetch(p + 32);
    return n > 0 ? load_first_f32(p, n < 16 ? n : 16, 0) : (V){0};
}

/* The terms of two vectors, in pairs. Each but the last is rounded to the nearest; for the last no more than 8 bits are
 * left. A number that is not finite, or infinite when rounded, has the last term NaN, and so all its sums are NaN. */
INLINE void bfloat_terms(__m512 low, __m512 high, const int n_terms, __m512i terms[])
{
    const __m512i upper = _mm512_set1_epi32((int32_t)0xffff0000), half = _mm512_set1_epi32(0x8000);
    for (int t = 0; t < n_terms - 1; t++) {
        const __m512i a = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(low), half), upper);
        const __m512i b = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(high), half), upper);
        terms[t] = _mm512_or_si512(_mm512_srli_epi32(a, 16), b);
        low = _mm512_sub_ps(low, _mm512_castsi512_ps(a)); /* exact */
        high = _mm512_sub_ps(high, _mm512_castsi512_ps(b));
    }
    terms[n_terms - 1] = _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(_mm512_castps_si512(low), 16),
                                                 _mm512_castps_si512(high));
}

/* Is a sum of the first n rows of the left factor not finite? Where floats have an infinite sum, terms of both signs
 * can sum to NaN. */
INLINE int bfloat_overflows(float sums[2][2][16][16], ptrdiff_t n)
{
    __m512i large = _mm512_setzero_si512();
    for (ptrdiff_t r = 0; r < 32 && r < n; r++)
        for (int half = 0; half < 2; half++)
            large = _mm512_max_epi32(large, _mm512_and_si512(_mm512_loadu_si512(sums[r / 16][half][r % 16]),
                                                             _mm512_set1_epi32(0x7fffffff)));
    return _mm512_reduce_max_epi32(large) >= 0x7f800000;
}

/* Tiles 0 .. 3 += rows 0 .. 31 of the left factor times columns 0 .. 31 of the right one (or the first 16 of either),
 * over the steps. */
INLINE void bfloat_product_of(const char *left, const int left_terms, const int left_tiles, const char *right,
                              const int right_terms, const int right_tiles, ptrdiff_t n_steps)
{
    static const int pairs[6][2] = {{0, 2}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 0}}; /* so that the fewest are loaded */
    for (ptrdiff_t s = 0; s < n_steps; s++) {
        for (int i = 0, p = -1, q = -1; i < 6; i++) {
            if (pairs[i][0] >= left_terms || pairs[i][1] >= right_terms)
                continue;
            if (p != pairs[i][0]) {
                p = pairs[i][0];
                _tile_loadd(4, left + p * 2 * TILE_BYTES, 64);
                if (left_tiles == 2)
                    _tile_loadd(5, left + p * 2 * TILE_BYTES + TILE_BYTES, 64);
            }
            if (q != pairs[i][1]) {
                q = pairs[i][1];
                _tile_loadd(6, right + q * 2 * TILE_BYTES, 64);
                if (right_tiles == 2)
                    _tile_loadd(7, right + q * 2 * TILE_BYTES + TILE_BYTES, 64);
            }
            _tile_dpbf16ps(0, 4, 6);
            if (right_tiles == 2)
                _tile_dpbf16ps(1, 4, 7);
            if (left_tiles == 2)
                _tile_dpbf16ps(2, 5, 6);
            if (left_tiles == 2 && right_tiles == 2)
                _tile_dpbf16ps(3, 5, 7);
        }
        left += left_terms * 2 * TILE_BYTES;
        right += right_terms * 2 * TILE_BYTES;
    }
}

INLINE void bfloat_product(const char *left, const int left_terms, ptrdiff_t left_rows, const char *right,
                           const int right_terms, ptrdiff_t right_columns, ptrdiff_t n_steps)
{
    if (right_columns <= 16)
        bfloat_product_of(left, left_terms, 2, right, right_terms, 1, n_steps);
    else if (left_rows <= 16)
        bfloat_product_of(left, left_terms, 1, right, right_terms, 2, n_steps);
    else
        bfloat_product_of(left, left_terms, 2, right, right_terms, 2, n_steps);
}

INLINE void bfloat_zero(void)
{
    settle();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* The tiles, in the order [row / 16][column / 16][row][column]. */
INLINE void bfloat_store(float sums[2][2][16][16])
{
    _tile_stored(0, sums[0][0], 64);
    _tile_stored(1, sums[0][1], 64);
    _tile_stored(2, sums[1][0], 64);
    _tile_stored(3, sums[1][1], 64);
}

/* n features of up to 32 classes of W as a right factor: [step][term][half][pair][class]. */
static void bfloat_pack_group(const float *W, ptrdiff_t n_features, ptrdiff_t n, ptrdiff_t n_classes, char *to)
{
    for (ptrdiff_t j = 0; j < n; j += BFLOAT_STEP, to += BFLOAT_TERMS * 2 * TILE_BYTES)
        for (int half = 0; half < 2; half++) {
            f32_vector low[16], high[16];
            for (int c = 0; c < 16; c++) {
                const ptrdiff_t class = 16 * half + c, left = class < n_classes ? n - j : 0;
                const float *w = W + class * n_features + j;
                low[c] = bfloat_load(w, left);
                high[c] = bfloat_load(w + 16, left - 16);
            }
            f32_transpose(low);
            f32_transpose(high);
            for (int l = 0; l < 16; l++) {
                __m512i terms[BFLOAT_TERMS];
                bfloat_terms(low[l], high[l], BFLOAT_TERMS, terms);
                for (int t = 0; t < BFLOAT_TERMS; t++)
                    _mm512_store_si512(to + (2 * t + half) * TILE_BYTES + l * 64, terms[t]);
            }
        }
}

/* 0 where the terms of all classes would be too large: then a group's are made when it is multiplied. */
static ptrdiff_t bfloat_weights_bytes(ptrdiff_t n_features, ptrdiff_t n_classes)
{
    const ptrdiff_t n = bfloat_bytes(n_features, n_classes);
    return n <= BFLOAT_KEPT ? n : 0;
}

static int bfloat_pack_weights(const void *W, ptrdiff_t n_features, ptrdiff_t n_classes, void *packed)
{
    for (ptrdiff_t k = 0; k < n_classes; k += BFLOAT_CLASSES)
        bfloat_pack_group((const float *)W + k * n_features, n_features, n_features, n_classes - k,
                          (char *)packed + bfloat_bytes(n_features, k));
    return 1;
}

/* dlogits of up to 32 classes as a left factor: [step][term][half][class][pair]. */
static void bfloat_pack_dlogits(const float *dlogits, ptrdiff_t ld, ptrdiff_t n_rows, ptrdiff_t n_classes, char *to)
{
    for (ptrdiff_t i = 0; i < n_rows; i += BFLOAT_STEP)
        for (ptrdiff_t k = 0; k < n_classes && k < BFLOAT_CLASSES; k++) {
            const float *d = dlogits + k * ld + i;
            const ptrdiff_t left = n_rows - i;
            __m512i terms[BFLOAT_TERMS];
            bfloat_terms(bfloat_load(d, left), bfloat_load(d + 16, left - 16), BFLOAT_TERMS, terms);
            for (int t = 0; t < BFLOAT_TERMS; t++)
                _mm512_store_si512(to + (i / BFLOAT_STEP * BFLOAT_TERMS + t) * 2 * TILE_BYTES + k * 64, terms[t]);
        }
}

/* X's terms, and a group's. */
static ptrdiff_t bfloat_forward_bytes(ptrdiff_t n_rows, ptrdiff_t n_features)
{
    (void)n_rows;
    return BFLOAT_CACHED + bfloat_bytes(n_features, BFLOAT_CLASSES);
}

/* X's terms, those of dlogits, and a panel for floats. */
static ptrdiff_t bfloat_gradient_bytes(ptrdiff_t n_rows, ptrdiff_t n_classes)
{
    return BFLOAT_CACHED + bfloat_bytes(n_rows, n_classes <= BFLOAT_FEW ? n_classes : BFLOAT_CLASSES) +
           (ptrdiff_t)sizeof(float) * GRADIENT_PANEL * n_rows;
}

#endif

/* As bfloat_load: the first n of 32 numbers at p, zeros after them, and what lies two lines on is fetched. */
INLINE void BFLOAT(two)(const S *p, ptrdiff_t n, __m512 two[2])
{
    for (int half = 0; half < 2; half++, p += 16, n -= 16) {
        if (half == 0 || sizeof(S) == 4)
            __builtin_prefetch(p + 128 / sizeof(S));
        two[half] = n >= 16 ? LOAD(p) : n > 0 ? FROM(load_short)(p, n) : (V){0};
    }
}

/* n features from j on of 32 rows as a left factor: [step][term][half][row][pair]. Rows past the last are zeros. */
INLINE void BFLOAT(split_rows)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t j, ptrdiff_t n, char *to)
{
    for (ptrdiff_t l = 0; l < n; l += BFLOAT_STEP)
        for (ptrdiff_t r = 0; r < 32; r++) {
            __m512 two[2];
            __m512i terms[BFLOAT_TERMS];
            BFLOAT(two)((const S *)rows[r < n_rows ? r : 0] + j + l, r < n_rows ? n - l : 0, two);
            bfloat_terms(two[0], two[1], X_TERMS, terms);
            for (int t = 0; t < X_TERMS; t++)
                _mm512_store_si512(to + (l / BFLOAT_STEP * X_TERMS + t) * 2 * TILE_BYTES + r * 64, terms[t]);
        }
}

/* 32 rows times 32 classes. Until the last features, sums wait where the logits will be, not yet transposed.
 * 0 if a sum is not finite. */
INLINE int BFLOAT(logits)(const char *rows, ptrdiff_t n_rows, const char *weights, ptrdiff_t n_steps, int first,
                          int last, const float *b, ptrdiff_t n_classes, float scale, float *logits, ptrdiff_t ld)
{
    const ptrdiff_t stride = ld * (ptrdiff_t)sizeof(float);
    bfloat_zero();
    if (!first) {
        _tile_loadd(0, logits, stride);
        _tile_loadd(1, logits + 16 * ld, stride);
        _tile_loadd(2, logits + 16, stride);
        _tile_loadd(3, logits + 16 * ld + 16, stride);
    }
    bfloat_product(rows, X_TERMS, 32, weights, BFLOAT_TERMS, n_classes, n_steps);
    if (!last) {
        _tile_stored(0, logits, stride);
        _tile_stored(1, logits + 16 * ld, stride);
        _tile_stored(2, logits + 16, stride);
        _tile_stored(3, logits + 16 * ld + 16, stride);
        return 1;
    }
    float sums[2][2][16][16];
    bfloat_store(sums);
    for (int half = 0; half < 2; half++)
        for (ptrdiff_t c = 0; c < BFLOAT_CLASSES && c < n_classes; c += 16) {
            f32_vector v[16];
            memcpy(v, sums[half][c / 16], sizeof v);
            f32_transpose(v);
            for (ptrdiff_t t = 0; t < 16 && c + t < n_classes; t++)
                store_f32(logits + (c + t) * ld + 16 * half, v[t] * scale + b[c + t]);
        }
    return !bfloat_overflows(sums, n_rows);
}

/* 2 n_rows n_features n_classes FLOP, in 6 times as many of bfloat16 (5 with X of float16). As many features of the
 * rows as fit stay in L2 while all of W passes by. 32 rows with a sum that is not finite are multiplied as floats. */
static int BFLOAT(forward)(const x_rows *x, const linear_map *map, void *logits_, ptrdiff_t ld, void *scratch)
{
    const void *const *rows = x->rows;
    const ptrdiff_t n_rows = x->n_rows, n_features = x->n_features, n_classes = map->n_classes;
    const char *packed = map->packed;
    const float *W = map->W, *b = map->b, scale = (float)map->scale;
    const ptrdiff_t at_once = packed ? BFLOAT_ROWS : BFLOAT_MOST_ROWS;
    char *group = (char *)scratch + BFLOAT_CACHED;
    for (ptrdiff_t begin = 0; begin < n_rows; begin += at_once) {
        const ptrdiff_t end = n_rows - begin < at_once ? n_rows : begin + at_once, n_tiles = bfloat_steps(end - begin);
        const ptrdiff_t steps = BFLOAT_CACHED / (n_tiles * X_TERMS * 2 * TILE_BYTES);
        int finite[BFLOAT_MOST_ROWS / 32];
        for (ptrdiff_t from = 0, to; from < n_features; from = to) {
            to = n_features - from < steps * BFLOAT_STEP ? n_features : from + steps * BFLOAT_STEP;
            const ptrdiff_t n_steps = bfloat_steps(to - from), tile_bytes = n_steps * X_TERMS * 2 * TILE_BYTES;
            for (ptrdiff_t t = 0; t < n_tiles; t++) {
                finite[t] = 1;
                BFLOAT(split_rows)(rows + begin + 32 * t, end - begin - 32 * t, from, to - from,
                                   (char *)scratch + t * tile_bytes);
            }
            for (ptrdiff_t k = 0; k < n_classes; k += BFLOAT_CLASSES) {
                const char *weights = group;
                if (packed)
                    weights = packed + bfloat_bytes(n_features, k) + bfloat_bytes(from, 1);
                else
                    bfloat_pack_group(W + k * n_features + from, n_features, to - from, n_classes - k, group);
                for (ptrdiff_t t = 0; t < n_tiles; t++)
                    finite[t] &= BFLOAT(logits)((const char *)scratch + t * tile_bytes, end - begin - 32 * t, weights,
                                                n_steps, from == 0, to == n_features, b + k, n_classes - k,
                                                scale, (float *)logits_ + k * ld + begin + 32 * t, ld);
            }
        }
        for (ptrdiff_t t = 0, i = begin; t < n_tiles; t++, i += 32)
            if (!finite[t]) {
                const x_rows few = {.rows = rows + i, .n_rows = end - i < 32 ? end - i : 32, .n_features = n_features};
                FROM(panels)(&few, map, (float *)logits_ + i, ld, scratch);
            }
    }
    return 1;
}

/* All rows as right factors: for each 32 features from j on a panel [step][term][half][pair][feature]. */
static void BFLOAT(split_features)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t j, ptrdiff_t end, char *panels)
{
    const ptrdiff_t panel_bytes = bfloat_steps(n_rows) * X_TERMS * 2 * TILE_BYTES;
    for (ptrdiff_t i = 0; i < n_rows; i += BFLOAT_STEP, panels += X_TERMS * 2 * TILE_BYTES) {
        char *to = panels;
        for (ptrdiff_t from = j; from < end; from += BFLOAT_STEP, to += panel_bytes)
            for (ptrdiff_t l = 0; l < 16; l++) {
                const S *first = rows[i + l < n_rows ? i + l : 0], *second = rows[i + l + 16 < n_rows ? i + l + 16 : 0];
                __m512 low[2], high[2];
                BFLOAT(two)(first + from, i + l < n_rows ? end - from : 0, low);
                BFLOAT(two)(second + from, i + l + 16 < n_rows ? end - from : 0, high);
                for (int half = 0; half < 2; half++) {
                    __m512i terms[BFLOAT_TERMS];
                    bfloat_terms(low[half], high[half], X_TERMS, terms);
                    for (int t = 0; t < X_TERMS; t++)
                        _mm512_store_si512(to + (2 * t + half) * TILE_BYTES + l * 64, terms[t]);
                }
            }
    }
}

/* The gradient of one panel's features (from j on) and of the n classes from k on, by floats. */
static void BFLOAT(by_floats)(const x_rows *x, ptrdiff_t j, ptrdiff_t end, const void *dlogits, ptrdiff_t ld,
                              ptrdiff_t k, ptrdiff_t n, const gradient_sink *sink, void *panel)
{
    gradient_sink own = *sink;
    own.W = own.W ? (float *)own.W + k * x->n_features : NULL;
    own.velocity = own.velocity ? (float *)own.velocity + k * x->n_features : NULL;
    own.gradient = own.gradient ? (float *)own.gradient + k * x->n_features : NULL;
    FROM(gradient)(x, j, end - j < BFLOAT_STEP ? end : j + BFLOAT_STEP, dlogits, ld, n, &own, panel);
}

/* 2 n_rows (end - begin) n_classes FLOP, in 6 times as many of bfloat16 (5 with X of float16). As many features as fit
 * stay in L2 while all dlogits pass by. */
static int BFLOAT(gradient)(const x_rows *x, ptrdiff_t begin, ptrdiff_t end, const void *dlogits_, ptrdiff_t ld,
                            ptrdiff_t n_classes, const gradient_sink *sink, void *scratch)
{
    const void *const *rows = x->rows;
    const ptrdiff_t n_rows = x->n_rows, n_features = x->n_features;
    const float scale = (float)sink->scale;
    const ptrdiff_t steps = bfloat_steps(n_rows), panel_bytes = steps * X_TERMS * 2 * TILE_BYTES;
    const ptrdiff_t width = BFLOAT_CACHED / panel_bytes * BFLOAT_STEP;
    const int kept = n_classes <= BFLOAT_FEW;
    char *groups = (char *)scratch + BFLOAT_CACHED;
    char *of_floats = groups + bfloat_bytes(n_rows, kept ? n_classes : BFLOAT_CLASSES);
    for (ptrdiff_t from = begin, to; from < end; from = to) {
        to = end - from < width ? end : from + width;
        BFLOAT(split_features)(rows, n_rows, from, to, scratch);
        for (ptrdiff_t k = 0; k < n_classes; k += BFLOAT_CLASSES) {
            const float *dlogits = (const float *)dlogits_ + k * ld;
            const ptrdiff_t n = n_classes - k < BFLOAT_CLASSES ? n_classes - k : BFLOAT_CLASSES;
            char *group = groups + (kept ? bfloat_bytes(n_rows, k) : 0);
            if (!kept || from == begin)
                bfloat_pack_dlogits(dlogits, ld, n_rows, n, group);
            for (ptrdiff_t j = from; j < to; j += BFLOAT_STEP) {
                float sums[2][2][16][16]; /* [class / 16][feature / 16][class][feature] */
                bfloat_zero();
                bfloat_product(group, BFLOAT_TERMS, n, (const char *)scratch + (j - from) / BFLOAT_STEP * panel_bytes,
                               X_TERMS, BFLOAT_STEP, steps);
                bfloat_store(sums);
                if (bfloat_overflows(sums, n)) {
                    BFLOAT(by_floats)(x, j, to, dlogits, ld, k, n, sink, of_floats);
                    continue;
                }
                for (ptrdiff_t c = 0; c < n; c++)
                    for (ptrdiff_t t = j; t < j + BFLOAT_STEP && t < to; t += 16) {
                        const ptrdiff_t at = (k + c) * n_features + t, left = to - t < 16 ? to - t : 16;
                        const V sum = load_f32(sums[c / 16][(t - j) / 16][c % 16]);
                        into_sink_f32(sink, at, left, from_sink_f32(sink, at, left) + sum, scale);
                    }
            }
        }
    }
    return 1;
}

static const way_of_multiplying BFLOAT(way) = {
    .most_features = BFLOAT_FEATURES, .fewest_features = 1, .fewest_classes = 48, .fewest_rows = 128, .speed = 2,
    .packs = 1, .classes_at_once = 32, .forward_fetches = FETCH_NONE, .open = digits_open, .close = digits_close,
    .row_bytes = no_row_bytes, .weights_bytes = bfloat_weights_bytes,
    .forward_bytes = bfloat_forward_bytes, .gradient_bytes = bfloat_gradient_bytes,
    .pack_weights = bfloat_pack_weights, .forward = BFLOAT(forward), .gradient = BFLOAT(gradient)};

#undef BFLOAT
#undef X_TERMS
