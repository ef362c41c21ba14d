/* Floats by tiles of bfloat16 (AMX): included by tiles.h with X_TERMS.
 *
 * A float is the sum of three numbers of 8 bits, each of them a bfloat16 (a float16, of 11 bits, is the sum of two).
 * The tile unit multiplies 16 x 32 by 32 x 16 of those without rounding and sums in float32, in the time of 16
 * multiply-adds of vectors. Of the nine products of terms the three below 2^-24 of the whole are left out; six
 * remain, at 16 times the speed of floats. Terms below 2^-126 count as 0: numbers below 2^-110 lose digits.
 *
 * What is summed over goes in steps of 32 numbers, which lie in pairs: l and 16 + l share an item of 32 bits.
 * Steps of a factor: its terms, of each of them two tiles. */

#define BFLOAT(name) TILE(PASTE(bfloat, name))

#if !defined(BFLOAT_STEP)
#define BFLOAT_STEP 32
/* Rows whose terms stay in the second-level cache while all classes pass by, and strips of 32 features likewise. */
enum { BFLOAT_CLASSES = 32, BFLOAT_ROWS = 128, BFLOAT_STRIPS = 4, BFLOAT_TERMS = 3 };

INLINE ptrdiff_t bfloat_steps(ptrdiff_t n)
{
    return (n + BFLOAT_STEP - 1) / BFLOAT_STEP;
}

INLINE ptrdiff_t bfloat_bytes(ptrdiff_t n, ptrdiff_t n_classes)
{
    return (n_classes + BFLOAT_CLASSES - 1) / BFLOAT_CLASSES * bfloat_steps(n) * BFLOAT_TERMS * 2 * TILE_BYTES;
}

/* Up to 16 floats, zeros after them; none if n is not above 0. */
INLINE __m512 bfloat_load(const float *p, ptrdiff_t n)
{
    return n > 0 ? load_first_f32(p, n < 16 ? n : 16, 0) : (V){0};
}

/* The terms of two vectors, in pairs, each rounded to the nearest. `large` collects the largest magnitude. */
INLINE void bfloat_terms(__m512 low, __m512 high, const int n_terms, __m512i terms[], __m512i *large)
{
    const __m512i upper = _mm512_set1_epi32((int32_t)0xffff0000), half = _mm512_set1_epi32(0x8000);
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    *large = _mm512_max_epi32(*large, _mm512_and_si512(_mm512_castps_si512(low), magnitude));
    *large = _mm512_max_epi32(*large, _mm512_and_si512(_mm512_castps_si512(high), magnitude));
    for (int t = 0; t < n_terms; t++) {
        const __m512i a = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(low), half), upper);
        const __m512i b = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(high), half), upper);
        terms[t] = _mm512_or_si512(_mm512_srli_epi32(a, 16), b);
        low = _mm512_sub_ps(low, _mm512_castsi512_ps(a)); /* exact */
        high = _mm512_sub_ps(high, _mm512_castsi512_ps(b));
    }
}

/* Has a number been seen that is not finite, or would be infinite when rounded? */
INLINE int bfloat_overflows(__m512i large)
{
    return _mm512_reduce_max_epi32(large) >= 0x7f7f8000;
}

/* Did one of the sums of n left rows overflow? Terms of both signs can make NaN of what is infinite with floats. */
INLINE int bfloat_sums_overflow(float sums[2][2][16][16], ptrdiff_t n)
{
    __m512i large = _mm512_setzero_si512();
    for (ptrdiff_t r = 0; r < 32 && r < n; r++)
        for (int half = 0; half < 2; half++)
            large = _mm512_max_epi32(large, _mm512_and_si512(_mm512_loadu_si512(sums[r / 16][half][r % 16]),
                                                             _mm512_set1_epi32(0x7fffffff)));
    return _mm512_reduce_max_epi32(large) >= 0x7f800000;
}

/* Tiles 0 .. 3 = left rows 0 .. 31 times right columns 0 .. 31 (or the first 16), summed over the steps. */
INLINE void bfloat_product_of(const char *left, const int left_terms, const int left_tiles, const char *right,
                              const int right_terms, const int right_tiles, ptrdiff_t n_steps)
{
    settle();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (ptrdiff_t s = 0; s < n_steps; s++) {
        for (int p = 0; p < left_terms; p++, left += 2 * TILE_BYTES) {
            _tile_loadd(4, left, 64);
            if (left_tiles == 2)
                _tile_loadd(5, left + TILE_BYTES, 64);
            for (int q = 0; q < right_terms && p + q < BFLOAT_TERMS; q++) {
                _tile_loadd(6, right + q * 2 * TILE_BYTES, 64);
                if (right_tiles == 2)
                    _tile_loadd(7, right + q * 2 * TILE_BYTES + TILE_BYTES, 64);
                _tile_dpbf16ps(0, 4, 6);
                if (right_tiles == 2)
                    _tile_dpbf16ps(1, 4, 7);
                if (left_tiles == 2)
                    _tile_dpbf16ps(2, 5, 6);
                if (left_tiles == 2 && right_tiles == 2)
                    _tile_dpbf16ps(3, 5, 7);
            }
        }
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

/* W (n_classes, n_features) -> groups of 32 classes as right factors: [group][step][term][half][pair][class].
 * 0 if a weight is not finite. */
static int bfloat_pack_weights(const void *W, ptrdiff_t n_features, ptrdiff_t n_classes, void *packed)
{
    __m512i large = _mm512_setzero_si512();
    char *to = packed;
    for (ptrdiff_t k = 0; k < n_classes; k += BFLOAT_CLASSES)
        for (ptrdiff_t j = 0; j < n_features; j += BFLOAT_STEP, to += BFLOAT_TERMS * 2 * TILE_BYTES)
            for (int half = 0; half < 2; half++) {
                __m512i terms[16][BFLOAT_TERMS], tile[16];
                for (int c = 0; c < 16; c++) {
                    const ptrdiff_t class = k + 16 * half + c, left = class < n_classes ? n_features - j : 0;
                    const float *w = (const float *)W + class * n_features + j;
                    bfloat_terms(bfloat_load(w, left), bfloat_load(w + 16, left - 16), BFLOAT_TERMS, terms[c], &large);
                }
                for (int t = 0; t < BFLOAT_TERMS; t++) {
                    for (int c = 0; c < 16; c++)
                        tile[c] = terms[c][t];
                    transpose_items(tile);
                    memcpy(to + (2 * t + half) * TILE_BYTES, tile, TILE_BYTES);
                }
            }
    return !bfloat_overflows(large);
}

/* dlogits (n_classes, ld) -> groups of 32 classes as left factors: [group][step][term][half][class][pair]. */
static int bfloat_pack_dlogits(const float *dlogits, ptrdiff_t ld, ptrdiff_t n_rows, ptrdiff_t n_classes, char *packed)
{
    __m512i large = _mm512_setzero_si512();
    for (ptrdiff_t k = 0; k < n_classes; k++) {
        char *to = packed + bfloat_bytes(n_rows, k / BFLOAT_CLASSES * BFLOAT_CLASSES) + k % BFLOAT_CLASSES * 64;
        for (ptrdiff_t i = 0; i < n_rows; i += BFLOAT_STEP, to += BFLOAT_TERMS * 2 * TILE_BYTES) {
            const float *d = dlogits + k * ld + i;
            const ptrdiff_t left = n_rows - i;
            __m512i terms[BFLOAT_TERMS];
            bfloat_terms(bfloat_load(d, left), bfloat_load(d + 16, left - 16), BFLOAT_TERMS, terms, &large);
            for (int t = 0; t < BFLOAT_TERMS; t++)
                _mm512_store_si512(to + t * 2 * TILE_BYTES, terms[t]);
        }
    }
    return !bfloat_overflows(large);
}

static ptrdiff_t bfloat_forward_bytes(ptrdiff_t n_features)
{
    return BFLOAT_ROWS / 32 * bfloat_steps(n_features) * BFLOAT_TERMS * 2 * TILE_BYTES;
}

static ptrdiff_t bfloat_gradient_bytes(ptrdiff_t n_rows, ptrdiff_t n_classes)
{
    return bfloat_bytes(n_rows, n_classes) + BFLOAT_STRIPS * bfloat_steps(n_rows) * BFLOAT_TERMS * 2 * TILE_BYTES +
           (ptrdiff_t)sizeof(float) * GRADIENT_PANEL * n_rows;
}

static ptrdiff_t bfloat_row_bytes(ptrdiff_t n_features)
{
    (void)n_features;
    return 0; /* both products read X where it lies */
}
#endif

/* Up to n of 32 numbers from p. */
INLINE void BFLOAT(two)(const S *p, ptrdiff_t n, __m512 two[2])
{
    for (int half = 0; half < 2; half++, p += 16, n -= 16)
        two[half] = n >= 16 ? LOAD(p) : n > 0 ? TILE(load_short)(p, n) : (V){0};
}

/* 32 rows as a left factor; 0 if a number is not finite. Rows past the last are zeros. */
INLINE int BFLOAT(split_rows)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t n_features, char *to)
{
    __m512i large = _mm512_setzero_si512();
    for (ptrdiff_t j = 0; j < n_features; j += BFLOAT_STEP, to += X_TERMS * 2 * TILE_BYTES)
        for (ptrdiff_t r = 0; r < 32; r++) {
            __m512 two[2];
            __m512i terms[BFLOAT_TERMS];
            BFLOAT(two)((const S *)rows[r < n_rows ? r : 0] + j, r < n_rows ? n_features - j : 0, two);
            bfloat_terms(two[0], two[1], X_TERMS, terms, &large);
            for (int t = 0; t < X_TERMS; t++)
                _mm512_store_si512(to + t * 2 * TILE_BYTES + r * 64, terms[t]);
        }
    return !bfloat_overflows(large);
}

/* 2 n_rows n_features n_classes FLOP, in 6 times as many of bfloat16 (5 with X of float16). 128 rows at a time stay in
 * the second-level cache while all of W passes by. Rows with a number that is not finite go the way of floats. */
static int BFLOAT(forward)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t n_features, const void *W,
                           const void *packed, const void *b, ptrdiff_t n_classes, double scale, void *logits_,
                           ptrdiff_t ld, void *staged, void *scratch)
{
    const ptrdiff_t steps = bfloat_steps(n_features), row_tile_bytes = steps * X_TERMS * 2 * TILE_BYTES;
    (void)staged;
    if (!packed)
        return 0;
    for (ptrdiff_t begin = 0; begin < n_rows; begin += BFLOAT_ROWS) {
        const ptrdiff_t end = n_rows - begin < BFLOAT_ROWS ? n_rows : begin + BFLOAT_ROWS;
        int finite[BFLOAT_ROWS / 32];
        for (ptrdiff_t i = begin; i < end; i += 32)
            finite[(i - begin) / 32] = BFLOAT(split_rows)(rows + i, end - i, n_features,
                                                          (char *)scratch + (i - begin) / 32 * row_tile_bytes);
        for (ptrdiff_t k = 0; k < n_classes; k += BFLOAT_CLASSES)
            for (ptrdiff_t i = begin; i < end; i += 32) {
                if (!finite[(i - begin) / 32])
                    continue;
                float sums[2][2][16][16];
                bfloat_product((const char *)scratch + (i - begin) / 32 * row_tile_bytes, X_TERMS, 32,
                               (const char *)packed + bfloat_bytes(n_features, k), BFLOAT_TERMS, n_classes - k, steps);
                _tile_stored(0, sums[0][0], 64);
                _tile_stored(1, sums[0][1], 64);
                _tile_stored(2, sums[1][0], 64);
                _tile_stored(3, sums[1][1], 64);
                if (bfloat_sums_overflow(sums, end - i)) {
                    finite[(i - begin) / 32] = 0;
                    continue;
                }
                for (int half = 0; half < 2; half++)
                    for (ptrdiff_t c = 0; c < BFLOAT_CLASSES && k + c < n_classes; c += 16) {
                        f32_vector v[16];
                        memcpy(v, sums[half][c / 16], sizeof v);
                        f32_transpose(v);
                        for (ptrdiff_t t = 0; t < 16 && k + c + t < n_classes; t++)
                            store_f32((float *)logits_ + (k + c + t) * ld + i + 16 * half,
                                      v[t] * (float)scale + ((const float *)b)[k + c + t]);
                    }
            }
        for (ptrdiff_t i = begin; i < end; i += 32)
            if (!finite[(i - begin) / 32])
                TILE(forward)(rows + i, NULL, end - i < 32 ? end - i : 32, n_features, W, b, n_classes, scale,
                                   (float *)logits_ + i, ld, scratch);
    }
    return 1;
}

/* 32 features from j of all rows as a right factor; 0 if a number is not finite. */
INLINE int BFLOAT(split_features)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t n_features, ptrdiff_t j,
                                  char *to)
{
    __m512i large = _mm512_setzero_si512();
    for (ptrdiff_t i = 0; i < n_rows; i += BFLOAT_STEP, to += X_TERMS * 2 * TILE_BYTES)
        for (ptrdiff_t l = 0; l < 16; l++) {
            __m512 low[2], high[2];
            BFLOAT(two)((const S *)rows[i + l < n_rows ? i + l : 0] + j, i + l < n_rows ? n_features - j : 0, low);
            BFLOAT(two)((const S *)rows[i + l + 16 < n_rows ? i + l + 16 : 0] + j,
                        i + l + 16 < n_rows ? n_features - j : 0, high);
            for (int half = 0; half < 2; half++) {
                __m512i terms[BFLOAT_TERMS];
                bfloat_terms(low[half], high[half], X_TERMS, terms, &large);
                for (int t = 0; t < X_TERMS; t++)
                    _mm512_store_si512(to + (2 * t + half) * TILE_BYTES + l * 64, terms[t]);
            }
        }
    return !bfloat_overflows(large);
}

/* The gradient of a strip from j, of the n classes from k alone, without tiles. */
static void BFLOAT(by_floats)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t n_features, ptrdiff_t j,
                              ptrdiff_t end, const void *dlogits, ptrdiff_t ld, ptrdiff_t k, ptrdiff_t n, double scale,
                              const gradient_sink *sink, void *panel)
{
    gradient_sink own = *sink;
    own.W = own.W ? (float *)own.W + k * n_features : NULL;
    own.velocity = own.velocity ? (float *)own.velocity + k * n_features : NULL;
    own.gradient = own.gradient ? (float *)own.gradient + k * n_features : NULL;
    TILE(gradient)(rows, n_rows, n_features, j, end - j < BFLOAT_STEP ? end : j + BFLOAT_STEP, dlogits, ld, n, scale,
                   &own, panel);
}

/* 2 n_rows (end - begin) n_classes FLOP, in 6 times as many of bfloat16 (5 with X of float16). */
static int BFLOAT(gradient)(const void *staged, const void *const *rows, const void *const *later, ptrdiff_t n_later,
                            ptrdiff_t n_rows, ptrdiff_t n_features, ptrdiff_t begin, ptrdiff_t end, const void *dlogits,
                            ptrdiff_t ld, ptrdiff_t n_classes, double scale, const gradient_sink *sink, void *scratch)
{
    const ptrdiff_t steps = bfloat_steps(n_rows), strip_bytes = steps * X_TERMS * 2 * TILE_BYTES;
    char *strips = (char *)scratch + bfloat_bytes(n_rows, n_classes), *panel = strips + BFLOAT_STRIPS * strip_bytes;
    (void)staged, (void)later, (void)n_later;
    if (!bfloat_pack_dlogits(dlogits, ld, n_rows, n_classes, scratch))
        return 0;
    for (ptrdiff_t from = begin, to; from < end; from = to) {
        int finite[BFLOAT_STRIPS];
        to = end - from < BFLOAT_STRIPS * BFLOAT_STEP ? end : from + BFLOAT_STRIPS * BFLOAT_STEP;
        for (ptrdiff_t j = from, s = 0; j < to; j += BFLOAT_STEP, s++)
            finite[s] = BFLOAT(split_features)(rows, n_rows, n_features, j, strips + s * strip_bytes);
        for (ptrdiff_t k = 0; k < n_classes; k += BFLOAT_CLASSES)
            for (ptrdiff_t j = from, s = 0; j < to; j += BFLOAT_STEP, s++) {
                if (!finite[s])
                    continue;
                float sums[2][2][16][16]; /* [class / 16][feature / 16][class][feature] */
                bfloat_product((const char *)scratch + bfloat_bytes(n_rows, k), BFLOAT_TERMS, n_classes - k,
                               strips + s * strip_bytes, X_TERMS, BFLOAT_STEP, steps);
                _tile_stored(0, sums[0][0], 64);
                _tile_stored(1, sums[0][1], 64);
                _tile_stored(2, sums[1][0], 64);
                _tile_stored(3, sums[1][1], 64);
                if (bfloat_sums_overflow(sums, n_classes - k)) {
                    BFLOAT(by_floats)(rows, n_rows, n_features, j, to, (const float *)dlogits + k * ld, ld, k,
                                      n_classes - k < BFLOAT_CLASSES ? n_classes - k : BFLOAT_CLASSES, scale, sink,
                                      panel);
                    continue;
                }
                for (ptrdiff_t c = 0; c < BFLOAT_CLASSES && k + c < n_classes; c++)
                    for (ptrdiff_t t = j; t < j + BFLOAT_STEP && t < to; t += 16) {
                        const ptrdiff_t at = (k + c) * n_features + t, n = to - t < 16 ? to - t : 16;
                        const V sum = load_f32(sums[c / 16][(t - j) / 16][c % 16]);
                        into_sink_f32(sink, at, n, from_sink_f32(sink, at, n) + sum, (float)scale);
                    }
            }
        for (ptrdiff_t j = from, s = 0; j < to; j += BFLOAT_STEP, s++)
            if (!finite[s])
                BFLOAT(by_floats)(rows, n_rows, n_features, j, to, dlogits, ld, 0, n_classes, scale, sink, panel);
    }
    return 1;
}

static const tile_kernels BFLOAT(tiles) = {
    .most_features = 4096, .fewest_classes = 48, .fewest_rows = 128, .open = digits_open, .close = digits_close,
    .row_bytes = bfloat_row_bytes, .weights_bytes = bfloat_bytes, .forward_bytes = bfloat_forward_bytes,
    .gradient_bytes = bfloat_gradient_bytes, .pack_weights = bfloat_pack_weights, .forward = BFLOAT(forward),
    .gradient = BFLOAT(gradient)};

#undef BFLOAT
#undef X_TERMS
