/* AVX-512 (F, BW, DQ, VL): 32 registers of 64 bytes. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef float f32_vector __attribute__((vector_size(64)));
typedef int32_t f32_integers __attribute__((vector_size(64)));
typedef double f64_vector __attribute__((vector_size(64)));
typedef int64_t f64_integers __attribute__((vector_size(64)));

enum { f32_lanes = 16, f64_lanes = 8 };
/* 20 accumulators hide the latency of two multiply-adds a cycle; 12 x 2 measured no faster */
#define TILE_CLASSES 10
/* of dot products, 4 rows x 5 classes: W's share fills half of L1, where that of ten classes (of 784 features)
 * would fill it all (Zen 4: linear of 65,536 x 784 x 10 takes 1.2 times as long with 2 x 10) */
#define DOT_ROWS 4
#define DOT_TILE_CLASSES 5
#define DOT_STEP 4
#define DOT_CLASSES 32
/* v is read once for all rows: GCC would rather read it again for each */
#define IN_REGISTER(v) __asm__("" : "+v"(v))

static inline f32_vector f32_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline f32_vector f32_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline f32_vector f32_load_f32(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline f32_vector f32_load_f64(const double *p)
{
    const __m512 low = _mm512_castps256_ps512(_mm512_cvtpd_ps(_mm512_loadu_pd(p)));
    return _mm512_insertf32x8(low, _mm512_cvtpd_ps(_mm512_loadu_pd(p + 8)), 1);
}
static inline f64_vector f64_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline f64_vector f64_load_f16(const uint16_t *p)
{
    return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)));
}
static inline f64_vector f64_load_f32(const float *p)
{
    return _mm512_cvtps_pd(_mm256_loadu_ps(p));
}
static inline f64_vector f64_load_f64(const double *p)
{
    return _mm512_loadu_pd(p);
}

/* Zen 4: softmax of 2,048 x 32,768 or 10,000 takes 1.6 times as long if exponentials are computed again */
#define KEEPS_APART 1
#define HAS_LANES /* upper halves onto lower, until one lane is left */
static inline float f32_sum_lanes(f32_vector v)
{
    return _mm512_reduce_add_ps(v);
}
static inline double f64_sum_lanes(f64_vector v)
{
    return _mm512_reduce_add_pd(v);
}
static inline float f32_largest_lane(f32_vector v)
{
    return _mm512_reduce_max_ps(v);
}
static inline double f64_largest_lane(f64_vector v)
{
    return _mm512_reduce_max_pd(v);
}
#define HAS_HALVES /* `first`: of each 2 * half lanes of a, and of b, the first half; `second`: the others */
static inline void f32_halves(int half, f32_vector a, f32_vector b, f32_vector *first, f32_vector *second)
{
    switch (half) {
    case 8:
        *first = _mm512_shuffle_f32x4(a, b, 0x44), *second = _mm512_shuffle_f32x4(a, b, 0xee);
        break;
    case 4:
        *first = _mm512_shuffle_f32x4(a, b, 0x88), *second = _mm512_shuffle_f32x4(a, b, 0xdd);
        break;
    case 2:
        *first = _mm512_shuffle_ps(a, b, 0x44), *second = _mm512_shuffle_ps(a, b, 0xee);
        break;
    default:
        *first = _mm512_shuffle_ps(a, b, 0x88), *second = _mm512_shuffle_ps(a, b, 0xdd);
    }
}
static inline void f64_halves(int half, f64_vector a, f64_vector b, f64_vector *first, f64_vector *second)
{
    switch (half) {
    case 4:
        *first = _mm512_shuffle_f64x2(a, b, 0x44), *second = _mm512_shuffle_f64x2(a, b, 0xee);
        break;
    case 2:
        *first = _mm512_shuffle_f64x2(a, b, 0x88), *second = _mm512_shuffle_f64x2(a, b, 0xdd);
        break;
    default:
        *first = _mm512_unpacklo_pd(a, b), *second = _mm512_unpackhi_pd(a, b);
    }
}
/* `halves`, from half a vector down to 1, leave the sum of each vector in one lane: here in the order of the vectors */
static inline f32_vector f32_in_order(f32_vector v)
{
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15), v);
}
static inline f64_vector f64_in_order(f64_vector v)
{
    return _mm512_permutexvar_pd(_mm512_setr_epi64(0, 1, 4, 5, 2, 3, 6, 7), v);
}
#define HAS_MASKS /* loads and stores of a few lanes take no longer than of all */
#define HAS_LARGER /* a > b ? a : b */
static inline f32_vector f32_larger(f32_vector a, f32_vector b)
{
    return _mm512_max_ps(a, b);
}
static inline f64_vector f64_larger(f64_vector a, f64_vector b)
{
    return _mm512_max_pd(a, b);
}
/* x * 2^n, n a whole number, but 0 where y < least: that costs less than a result that underflows.
 * Subnormal results round once. */
#define HAS_SCALE
static inline f32_vector f32_scale(f32_vector x, f32_vector n, f32_vector y, f32_vector least)
{
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(y, least, _CMP_NLT_UQ), x, n);
}
static inline f64_vector f64_scale(f64_vector x, f64_vector n, f64_vector y, f64_vector least)
{
    return _mm512_maskz_scalef_pd(_mm512_cmp_pd_mask(y, least, _CMP_NLT_UQ), x, n);
}
static inline f32_vector f32_fma(f32_vector a, f32_vector b, f32_vector c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline f64_vector f64_fma(f64_vector a, f64_vector b, f64_vector c)
{
    return _mm512_fmadd_pd(a, b, c);
}
static inline f32_vector f32_load_first(const float *p, ptrdiff_t n, f32_vector fill)
{
    return _mm512_mask_loadu_ps(fill, (__mmask16)((1u << n) - 1), p);
}
static inline f64_vector f64_load_first(const double *p, ptrdiff_t n, f64_vector fill)
{
    return _mm512_mask_loadu_pd(fill, (__mmask8)((1u << n) - 1), p);
}
static inline void f32_store_first(float *p, f32_vector v, ptrdiff_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}
static inline void f64_store_first(double *p, f64_vector v, ptrdiff_t n)
{
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), v);
}
/* past the caches, to an aligned address; others may see it after the fence */
#define STREAM_FENCE() _mm_sfence()
#define STREAM(p, v) _mm512_stream_si512((__m512i *)(p), (__m512i)(v))
/* Within quarters of 16 bytes first, then the quarters themselves: a 4 x 4 transpose of quarters. */
static inline void f32_transpose(f32_vector v[16])
{
    __m512 u[4][4];
    for (int i = 0; i < 4; i++) {
        const __m512 a = _mm512_unpacklo_ps(v[4 * i], v[4 * i + 1]);
        const __m512 b = _mm512_unpackhi_ps(v[4 * i], v[4 * i + 1]);
        const __m512 c = _mm512_unpacklo_ps(v[4 * i + 2], v[4 * i + 3]);
        const __m512 d = _mm512_unpackhi_ps(v[4 * i + 2], v[4 * i + 3]);
        u[i][0] = _mm512_shuffle_ps(a, c, 0x44);
        u[i][1] = _mm512_shuffle_ps(a, c, 0xee);
        u[i][2] = _mm512_shuffle_ps(b, d, 0x44);
        u[i][3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    for (int c = 0; c < 4; c++) {
        const __m512 a = _mm512_shuffle_f32x4(u[0][c], u[1][c], 0x44);
        const __m512 b = _mm512_shuffle_f32x4(u[0][c], u[1][c], 0xee);
        const __m512 d = _mm512_shuffle_f32x4(u[2][c], u[3][c], 0x44);
        const __m512 e = _mm512_shuffle_f32x4(u[2][c], u[3][c], 0xee);
        v[c] = _mm512_shuffle_f32x4(a, d, 0x88);
        v[4 + c] = _mm512_shuffle_f32x4(a, d, 0xdd);
        v[8 + c] = _mm512_shuffle_f32x4(b, e, 0x88);
        v[12 + c] = _mm512_shuffle_f32x4(b, e, 0xdd);
    }
}
static inline void f64_transpose(f64_vector v[8])
{
    __m512d u[4][2];
    for (int i = 0; i < 4; i++) {
        u[i][0] = _mm512_unpacklo_pd(v[2 * i], v[2 * i + 1]);
        u[i][1] = _mm512_unpackhi_pd(v[2 * i], v[2 * i + 1]);
    }
    for (int c = 0; c < 2; c++) {
        const __m512d a = _mm512_shuffle_f64x2(u[0][c], u[1][c], 0x44);
        const __m512d b = _mm512_shuffle_f64x2(u[0][c], u[1][c], 0xee);
        const __m512d d = _mm512_shuffle_f64x2(u[2][c], u[3][c], 0x44);
        const __m512d e = _mm512_shuffle_f64x2(u[2][c], u[3][c], 0xee);
        v[c] = _mm512_shuffle_f64x2(a, d, 0x88);
        v[2 + c] = _mm512_shuffle_f64x2(a, d, 0xdd);
        v[4 + c] = _mm512_shuffle_f64x2(b, e, 0x88);
        v[6 + c] = _mm512_shuffle_f64x2(b, e, 0xdd);
    }
}

/* 16 rows x 64 bytes -> panel[j * stride + r]: transposed as bytes, in each quarter of the vectors 16 x 16, which takes
 * a quarter of the shuffles. Each turn moves the top bit of an address (row, byte in its quarter) to the end. */
#define HAS_PACK_U8
static inline void f32_pack_u8(const uint8_t *const rows[16], ptrdiff_t from, float *panel, ptrdiff_t stride)
{
    __m512i v[16], zipped[16];
    for (int r = 0; r < 16; r++)
        v[r] = _mm512_loadu_si512(rows[r] + from);
    for (int turn = 0; turn < 4; turn++) {
        for (int r = 0; r < 8; r++) {
            zipped[2 * r] = _mm512_unpacklo_epi8(v[r], v[r + 8]);
            zipped[2 * r + 1] = _mm512_unpackhi_epi8(v[r], v[r + 8]);
        }
        memcpy(v, zipped, sizeof v);
    }
    uint8_t bytes[16][64]; /* through memory: extracting quarters would cost the port that shuffles */
    for (int t = 0; t < 16; t++)
        _mm512_storeu_si512(bytes[t], v[t]);
    for (int q = 0; q < 4; q++)
        for (int t = 0; t < 16; t++)
            _mm512_storeu_ps(panel + (16 * q + t) * stride, f32_load_u8(bytes[t] + 16 * q));
}
