/* Pixels by integers: X is multiplied as it is stored, and every sum is exact.
 *
 * A weight (or dlogit) is rounded to 24 bits of its class's largest and written as three signed digits,
 * q = d0 + 256 d1 + 65536 d2, so that  sum_j x[j] w[j] = unit * sum_d 256^d sum_j x[j] digit_d[j].
 * The rounding of w is at most 2^-23 of the largest w of the class; floats round every sum on the way.
 *
 * A group of GROUP classes shares two tiles of 16 places each: digit d of class c has place 3 c + d of 32. A tile is 1
 * kB of memory, or the tile register that this fills: 64 bytes a place. Of dlogits, these are digits of 64 rows. Of W,
 * they are digits of 64 features: four features of each place, through both tiles, then the next four features. */

enum {
    GROUP = 10,
    PLACES = 32,
    STEP = 64, /* features (or rows) that one product of tiles sums over */
    TILE_BYTES = 1024,
};

INLINE ptrdiff_t n_steps(ptrdiff_t n)
{
    return (n + STEP - 1) / STEP;
}

INLINE ptrdiff_t n_groups(ptrdiff_t n_classes)
{
    return (n_classes + GROUP - 1) / GROUP;
}

/* Bytes of the unit of each class, then of two tiles of digits for each group and step. */
static ptrdiff_t digits_bytes(ptrdiff_t n, ptrdiff_t n_classes)
{
    return n_groups(n_classes) * (STEP + n_steps(n) * 2 * TILE_BYTES);
}

/* Bytes of the digits of dlogits, and of a panel: 64 features of all rows, interleaved. */
static ptrdiff_t digits_gradient_bytes(ptrdiff_t n_rows, ptrdiff_t n_classes)
{
    return digits_bytes(n_rows, n_classes) + n_steps(n_rows) * 4 * TILE_BYTES;
}

/* 64 features of four rows become one row of each of four tiles of a panel, in row[] and in the panel: the four bytes
 * of a feature lie side by side. Tile t has 16 of the features: its item p is feature 16 (p / 4) + 4 t + p % 4. */
INLINE void interleave(__m512i row[4], char *to)
{
    const __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]), high01 = _mm512_unpackhi_epi8(row[0], row[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(row[2], row[3]), high23 = _mm512_unpackhi_epi8(row[2], row[3]);
    row[0] = _mm512_unpacklo_epi16(low01, low23);
    row[1] = _mm512_unpackhi_epi16(low01, low23);
    row[2] = _mm512_unpacklo_epi16(high01, high23);
    row[3] = _mm512_unpackhi_epi16(high01, high23);
    for (int t = 0; t < 4; t++)
        _mm512_store_si512(to + t * TILE_BYTES, row[t]);
}

/* How many lines of the rows that come next each of n products must fetch, so that all are fetched evenly. */
INLINE int lines_at_once(const upcoming *next, ptrdiff_t n)
{
    const ptrdiff_t n_lines = next->n_rows * ((next->end - next->begin + 63) / 64);
    return n_lines > 0 ? (int)((n_lines + n - 1) / n) : 0;
}

/* Both products of digits. */
#if defined(HAS_AMX_TILES)
#include "digits_amx.h"
#else
#include "digits_vnni.h"
#endif

/* The exponent of the unit in which all |x| <= largest have three signed digits, given the bits of largest. */
INLINE int exponent_of_unit(int32_t largest_bits)
{
    float largest;
    memcpy(&largest, &largest_bits, sizeof largest);
    int exponent;
    const float mantissa = frexpf(largest, &exponent); /* in [1/2, 1) */
    /* 127 + 127 * 256 + 127 * 65536 is the largest number of three digits */
    exponent += (mantissa * 8388608.0f > 8355711.0f) - 23;
    return exponent < -149 ? -149 : exponent; /* no float is smaller than that */
}

/* The bits of the largest |x[i]|, which grow with it: not below those of infinity if any is not finite. */
INLINE int32_t largest_magnitude(const float *x, ptrdiff_t n)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (ptrdiff_t i = 0; i < n; i += 16) {
        const __mmask16 mask = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)-1;
        largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_maskz_loadu_epi32(mask, x + i), magnitude));
    }
    return _mm512_reduce_max_epi32(largest);
}

/* Up to 16 numbers times 2^exponents, zeros after them: their digits are the lowest three bytes.
 * Adding 128 to a byte and taking it away without a carry turns 0 .. 255 into -128 .. 127.
 * If asked to, counts the numbers that are not 0, and those of them below 128 units. */
INLINE __m512i digits_of(const float *x, ptrdiff_t n, __m512 exponents, __m512i *n_tiny, __m512i *n_nonzero)
{
    const __mmask16 mask = n >= 16 ? (__mmask16)-1 : n > 0 ? (__mmask16)((1u << n) - 1) : 0;
    const __m512 w = _mm512_maskz_loadu_ps(mask, x);
    const __m512i q = _mm512_cvtps_epi32(_mm512_scalef_ps(w, exponents));
    if (n_tiny) {
        const __m512i one = _mm512_set1_epi32(1);
        const __mmask16 nonzero = _mm512_cmp_ps_mask(w, _mm512_setzero_ps(), _CMP_NEQ_OQ);
        const __mmask16 tiny = _mm512_mask_cmplt_epi32_mask(nonzero, _mm512_abs_epi32(q), _mm512_set1_epi32(128));
        *n_nonzero = _mm512_mask_add_epi32(*n_nonzero, nonzero, *n_nonzero, one);
        *n_tiny = _mm512_mask_add_epi32(*n_tiny, tiny, *n_tiny, one);
    }
    const __m512i halves = _mm512_set1_epi32(0x00808080);
    return _mm512_xor_si512(_mm512_add_epi32(q, halves), halves);
}

/* 16 x 16 items of 32 bits */
INLINE void transpose_items(__m512i v[16])
{
    f32_vector lanes[16];
    memcpy(lanes, v, sizeof lanes);
    f32_transpose(lanes);
    memcpy(v, lanes, sizeof lanes);
}

/* W (n_classes, n_features) -> digits in the order of a right factor: [group][step][feature / 4][place][4].
 * 0 if W has a number that is not finite, or if one hides the others of its class. */
static int digits_of_weights(const void *W, ptrdiff_t n_features, ptrdiff_t n_classes, void *packed)
{
    float *units = packed;
    char *digits = (char *)packed + n_groups(n_classes) * STEP;
    /* each four numbers: their digits 0, their digits 1, ... */
    const __m512i by_digit = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    for (ptrdiff_t k = 0; k < n_classes; k++) {
        const float *w = (const float *)W + k * n_features;
        const int32_t largest = largest_magnitude(w, n_features);
        if (largest >= 0x7f800000)
            return 0;
        const int exponent = exponent_of_unit(largest);
        units[k] = ldexpf(1, exponent);
        const __m512 exponents = _mm512_set1_ps((float)-exponent);
        __m512i n_tiny = _mm512_setzero_si512(), n_nonzero = _mm512_setzero_si512();
        char *to = digits + k / GROUP * n_steps(n_features) * 2 * TILE_BYTES + k % GROUP * 12;
        for (ptrdiff_t j = 0; j < STEP * n_steps(n_features); j += 16, to += 4 * 128) {
            const __m512i q = digits_of(w + j, n_features - j, exponents, &n_tiny, &n_nonzero);
            const __m512i d = _mm512_shuffle_epi8(q, by_digit);
            /* the fourth byte of a number is no digit: the next class overwrites it */
            _mm_storeu_si128((__m128i *)to, _mm512_castsi512_si128(d));
            _mm_storeu_si128((__m128i *)(to + 128), _mm512_extracti32x4_epi32(d, 1));
            _mm_storeu_si128((__m128i *)(to + 256), _mm512_extracti32x4_epi32(d, 2));
            _mm_storeu_si128((__m128i *)(to + 384), _mm512_extracti32x4_epi32(d, 3));
        }
        if (2 * _mm512_reduce_add_epi32(n_tiny) > _mm512_reduce_add_epi32(n_nonzero))
            return 0; /* one weight hides most of the others: in its unit they are nothing, or nearly */
    }
    return 1;
}

/* d2 65536 + d1 256 + d0 */
INLINE __m512 number_of(__m512i d0, __m512i d1, __m512i d2)
{
    const __m512 low = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d1), _mm512_set1_ps(256), _mm512_cvtepi32_ps(d0));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(d2), _mm512_set1_ps(65536), low);
}

/* The sums of 32 rows and a group of classes become logits. */
INLINE void logits_of(__m512i sums[2][PLACES], int n_classes, const float *units, float scale, const float *b,
                      float *logits, ptrdiff_t ld)
{
    for (int half = 0; half < 2; half++) {
        transpose_items(sums[half]);
        transpose_items(sums[half] + 16);
        for (int c = 0; c < n_classes; c++) {
            const __m512i *d = sums[half] + 3 * c;
            const __m512 scaled = _mm512_mul_ps(number_of(d[0], d[1], d[2]), _mm512_set1_ps(scale));
            _mm512_storeu_ps(logits + c * ld + 16 * half,
                             _mm512_fmadd_ps(scaled, _mm512_set1_ps(units[c]), _mm512_set1_ps(b[c])));
        }
    }
}

/* Compiled twice, for rows in place and for copies: a choice between them inside the loops measured slower. */
INLINE void digits_logits(const int in_place, const x_rows *x, const linear_map *map, float *logits, ptrdiff_t ld,
                          upcoming *next)
{
    const void *const *rows = x->rows;
    const ptrdiff_t n_rows = x->n_rows, n_features = x->n_features, stride = x->stride, n_classes = map->n_classes;
    const char *packed = map->packed, *staged = x->staged;
    const float *b = map->b, scale = (float)map->scale;
    const ptrdiff_t steps = n_steps(n_features);
    const int n_lines = lines_at_once(next, (n_rows + 31) / 32 * steps);
    const char *digits = packed + n_groups(n_classes) * STEP;
    for (ptrdiff_t k = 0; k < n_classes; k += GROUP, digits += steps * 2 * TILE_BYTES) {
        const int n = (int)(n_classes - k < GROUP ? n_classes - k : GROUP);
        for (ptrdiff_t i = 0; i < n_rows; i += 32) {
            __m512i sums[2][PLACES];
            multiply_rows(in_place, rows + i, n_rows - i, staged + i * stride, stride, digits, n_features, n, sums,
                          next, n_lines);
            logits_of(sums, n, (const float *)packed + k, scale, b + k, logits + k * ld + i, ld);
        }
    }
}

/* 2 n_rows n_features n_classes FLOP, in 3 to 3.2 times as many of integers. */
static int digits_forward(const x_rows *x, const linear_map *map, void *logits, ptrdiff_t ld, void *scratch)
{
    const int in_place = stage_rows(x->rows, x->n_rows, x->n_features, x->staged);
    (void)scratch;
    if (!map->packed)
        return 0;
    upcoming next = {x->later, x->n_later, 0, x->n_features, 0};
    if (x->n_rows > ROWS_AHEAD)
        next = (upcoming){x->rows + ROWS_AHEAD, x->n_rows - ROWS_AHEAD, 0, x->n_features, 0};
    if (in_place)
        digits_logits(1, x, map, logits, ld, &next);
    else
        digits_logits(0, x, map, logits, ld, &next);
    return 1;
}

/* dlogits -> digits in the order of a left factor: [group][step][place][row]. 0 if one is not finite. */
static int digits_of_dlogits(const float *dlogits, ptrdiff_t ld, ptrdiff_t n_rows, ptrdiff_t n_classes, void *packed)
{
    float *units = packed;
    char *digits = (char *)packed + n_groups(n_classes) * STEP;
    for (ptrdiff_t k = 0; k < n_classes; k++) {
        const float *d = dlogits + k * ld;
        const int32_t largest = largest_magnitude(d, n_rows);
        if (largest >= 0x7f800000)
            return 0;
        const int exponent = exponent_of_unit(largest);
        units[k] = ldexpf(1, exponent);
        const __m512 exponents = _mm512_set1_ps((float)-exponent);
        char *to = digits + k / GROUP * n_steps(n_rows) * 2 * TILE_BYTES + k % GROUP * 3 * STEP;
        for (ptrdiff_t i = 0; i < STEP * n_steps(n_rows); i += 16) {
            const __m512i q = digits_of(d + i, n_rows - i, exponents, NULL, NULL);
            __m128i *place = (__m128i *)(to + i / STEP * 2 * TILE_BYTES + i % STEP);
            place[0] = _mm512_cvtepi32_epi8(q);
            place[4] = _mm512_cvtepi32_epi8(_mm512_srli_epi32(q, 8));
            place[8] = _mm512_cvtepi32_epi8(_mm512_srli_epi32(q, 16));
        }
    }
    return 1;
}

/* A class's sums for 64 features, in four tiles of 16 as `interleave` has ordered them, join the sink in order. */
INLINE void digits_into_sink(const gradient_sink *sink, ptrdiff_t at, ptrdiff_t n, __m512i sums[4][PLACES],
                             int place, float unit, float scale)
{
    __m512 g[4];
    for (int t = 0; t < 4; t++)
        g[t] = _mm512_mul_ps(number_of(sums[t][place], sums[t][place + 1], sums[t][place + 2]), _mm512_set1_ps(unit));
    const __m512 a = _mm512_shuffle_f32x4(g[0], g[1], 0x44), b = _mm512_shuffle_f32x4(g[0], g[1], 0xee);
    const __m512 c = _mm512_shuffle_f32x4(g[2], g[3], 0x44), d = _mm512_shuffle_f32x4(g[2], g[3], 0xee);
    const __m512 ordered[4] = {_mm512_shuffle_f32x4(a, c, 0x88), _mm512_shuffle_f32x4(a, c, 0xdd),
                               _mm512_shuffle_f32x4(b, d, 0x88), _mm512_shuffle_f32x4(b, d, 0xdd)};
    for (ptrdiff_t q = 0; q < 4 && 16 * q < n; q++) {
        const ptrdiff_t lanes = n - 16 * q < 16 ? n - 16 * q : 16;
        into_sink_f32(sink, at + 16 * q, lanes, from_sink_f32(sink, at + 16 * q, lanes) + ordered[q], scale);
    }
}

/* 2 n_rows (end - begin) n_classes FLOP, in 3 to 3.2 times as many of integers. */
static int digits_gradient(const x_rows *x, ptrdiff_t begin, ptrdiff_t end, const void *dlogits, ptrdiff_t ld,
                           ptrdiff_t n_classes, const gradient_sink *sink, void *scratch)
{
    const void *const *rows = x->rows;
    const ptrdiff_t n_rows = x->n_rows, n_features = x->n_features, stride = x->stride;
    const char *staged = x->staged;
    const float scale = (float)sink->scale;
    const ptrdiff_t steps = n_steps(n_rows);
    if (!digits_of_dlogits(dlogits, ld, n_rows, n_classes, scratch))
        return 0;
    upcoming next = {x->later, x->n_later, begin, end, begin};
    const int n_lines = lines_at_once(&next, n_steps(end - begin) * n_groups(n_classes) * steps);
    const float *units = scratch;
    char *panel = (char *)scratch + digits_bytes(n_rows, n_classes);
    for (ptrdiff_t j = begin; j < end; j += STEP) {
        const char *digits = (const char *)scratch + n_groups(n_classes) * STEP;
        for (ptrdiff_t k = 0; k < n_classes; k += GROUP, digits += steps * 2 * TILE_BYTES) {
            const int n = (int)(n_classes - k < GROUP ? n_classes - k : GROUP);
            __m512i sums[4][PLACES];
            multiply_panel(k == 0, rows, n_rows, staged, stride, j, end - j, panel, digits, n, sums, &next, n_lines);
            for (int c = 0; c < n; c++)
                digits_into_sink(sink, (k + c) * n_features + j, end - j, sums, 3 * c, units[k + c], scale);
        }
    }
    return 1;
}

static ptrdiff_t digits_forward_bytes(ptrdiff_t n_rows, ptrdiff_t n_features)
{
    (void)n_rows, (void)n_features;
    return 0;
}

static const way_of_multiplying digits = {
    .most_features = INT32_MAX / 255 / 128, /* a sum of so many pixels times digits has room */
    .fewest_features = 1, .fewest_classes = 1, .fewest_rows = 32, .even_weights = 1, .packs = 1, .classes_at_once = 1,
    DIGITS_BY, .weights_bytes = digits_bytes, .forward_bytes = digits_forward_bytes,
    .gradient_bytes = digits_gradient_bytes, .pack_weights = digits_of_weights,
    .forward = digits_forward, .gradient = digits_gradient};
