/* AVX2 with FMA and F16C: 16 registers of 32 bytes. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef float f32_vector __attribute__((vector_size(32)));
typedef int32_t f32_integers __attribute__((vector_size(32)));
typedef double f64_vector __attribute__((vector_size(32)));
typedef int64_t f64_integers __attribute__((vector_size(32)));

enum { f32_lanes = 8, f64_lanes = 4 };
/* 12 accumulators, 2 vectors of the panel, 1 broadcast: 15 of the 16 registers */
#define TILE_CLASSES 6
/* of dot products: 12 accumulators, 2 rows, 1 vector of W; up to DOT_CLASSES they pay (Zen 3: bench --only
 * growth/n_classes) */
#define DOT_ROWS 2
#define DOT_TILE_CLASSES 6
#define DOT_STEP 8
#define DOT_CLASSES 48
/* exp of 8 lanes takes longer than to bring exponentials back from L2, even though lines of the result are then read
 * from memory, which writing past the caches spares (Zen 3: without, 2,048 x 10,000 takes 1.5 times as long) */
#define KEEPS_IN_PLACE 1
/* v is read once for all rows: GCC would rather read it again for each, and two loads a cycle are not enough */
#define IN_REGISTER(v) __asm__("" : "+x"(v))

static inline f32_vector f32_load_u8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline f32_vector f32_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
static inline f32_vector f32_load_f32(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline f32_vector f32_load_f64(const double *p)
{
    return _mm256_set_m128(_mm256_cvtpd_ps(_mm256_loadu_pd(p + 4)), _mm256_cvtpd_ps(_mm256_loadu_pd(p)));
}
static inline f64_vector f64_load_u8(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
}
static inline f64_vector f64_load_f16(const uint16_t *p)
{
    return _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)p)));
}
static inline f64_vector f64_load_f32(const float *p)
{
    return _mm256_cvtps_pd(_mm_loadu_ps(p));
}
static inline f64_vector f64_load_f64(const double *p)
{
    return _mm256_loadu_pd(p);
}

#define HAS_LANES /* upper halves onto lower, until one lane is left */
static inline float f32_sum_lanes(f32_vector v)
{
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
static inline double f64_sum_lanes(f64_vector v)
{
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
static inline float f32_largest_lane(f32_vector v)
{
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
static inline double f64_largest_lane(f64_vector v)
{
    const __m128d two = _mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_max_sd(two, _mm_unpackhi_pd(two, two)));
}
#define HAS_LARGER /* a > b ? a : b */
static inline f32_vector f32_larger(f32_vector a, f32_vector b)
{
    return _mm256_max_ps(a, b);
}
static inline f64_vector f64_larger(f64_vector a, f64_vector b)
{
    return _mm256_max_pd(a, b);
}
static inline f32_vector f32_fma(f32_vector a, f32_vector b, f32_vector c)
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline f64_vector f64_fma(f64_vector a, f64_vector b, f64_vector c)
{
    return _mm256_fmadd_pd(a, b, c);
}
/* a mask of lanes 0 .. n - 1 */
static inline __m256i f32_first(ptrdiff_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline __m256i f64_first(ptrdiff_t n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
static inline f32_vector f32_load_first(const float *p, ptrdiff_t n, f32_vector fill)
{
    if (n >= f32_lanes)
        return f32_load_f32(p);
    const __m256i mask = f32_first(n);
    return _mm256_blendv_ps(fill, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
}
static inline f64_vector f64_load_first(const double *p, ptrdiff_t n, f64_vector fill)
{
    if (n >= f64_lanes)
        return f64_load_f64(p);
    const __m256i mask = f64_first(n);
    return _mm256_blendv_pd(fill, _mm256_maskload_pd(p, mask), _mm256_castsi256_pd(mask));
}
/* all, or the first few by shorter stores: one with a mask takes AMD's cores a dozen cycles */
static inline void f32_store_first(float *p, f32_vector v, ptrdiff_t n)
{
    __m128 rest = _mm256_castps256_ps128(v);
    if (n >= f32_lanes) {
        _mm256_storeu_ps(p, v);
        return;
    }
    if (n & 4) {
        _mm_storeu_ps(p, rest);
        rest = _mm256_extractf128_ps(v, 1), p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)p, rest);
        rest = _mm_movehl_ps(rest, rest), p += 2;
    }
    if (n & 1)
        _mm_store_ss(p, rest);
}
static inline void f64_store_first(double *p, f64_vector v, ptrdiff_t n)
{
    __m128d rest = _mm256_castpd256_pd128(v);
    if (n >= f64_lanes) {
        _mm256_storeu_pd(p, v);
        return;
    }
    if (n & 2) {
        _mm_storeu_pd(p, rest);
        rest = _mm256_extractf128_pd(v, 1), p += 2;
    }
    if (n & 1)
        _mm_store_sd(p, rest);
}
/* past the caches, to an aligned address; others may see it after the fence */
#define STREAM_FENCE() _mm_sfence()
#define STREAM(p, v) _mm256_stream_si256((__m256i *)(p), (__m256i)(v))
/* within halves of 16 bytes first, then the halves themselves */
static inline void f32_transpose(f32_vector v[8])
{
    __m256 u[2][4];
    for (int i = 0; i < 2; i++) {
        const __m256 a = _mm256_unpacklo_ps(v[4 * i], v[4 * i + 1]);
        const __m256 b = _mm256_unpackhi_ps(v[4 * i], v[4 * i + 1]);
        const __m256 c = _mm256_unpacklo_ps(v[4 * i + 2], v[4 * i + 3]);
        const __m256 d = _mm256_unpackhi_ps(v[4 * i + 2], v[4 * i + 3]);
        u[i][0] = _mm256_shuffle_ps(a, c, 0x44);
        u[i][1] = _mm256_shuffle_ps(a, c, 0xee);
        u[i][2] = _mm256_shuffle_ps(b, d, 0x44);
        u[i][3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int c = 0; c < 4; c++) {
        v[c] = _mm256_permute2f128_ps(u[0][c], u[1][c], 0x20);
        v[4 + c] = _mm256_permute2f128_ps(u[0][c], u[1][c], 0x31);
    }
}
static inline void f64_transpose(f64_vector v[4])
{
    const __m256d a = _mm256_unpacklo_pd(v[0], v[1]), b = _mm256_unpackhi_pd(v[0], v[1]);
    const __m256d c = _mm256_unpacklo_pd(v[2], v[3]), d = _mm256_unpackhi_pd(v[2], v[3]);
    v[0] = _mm256_permute2f128_pd(a, c, 0x20);
    v[1] = _mm256_permute2f128_pd(b, d, 0x20);
    v[2] = _mm256_permute2f128_pd(a, c, 0x31);
    v[3] = _mm256_permute2f128_pd(b, d, 0x31);
}
