/* AVX-512 (F, BW, DQ, VL): 32 registers of 64 bytes. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef float f32_vector __attribute__((vector_size(64)));
typedef int32_t f32_integers __attribute__((vector_size(64)));
typedef double f64_vector __attribute__((vector_size(64)));
typedef int64_t f64_integers __attribute__((vector_size(64)));

enum { f32_lanes = 16, f64_lanes = 8 };
#define FORWARD_ROWS 4
#define FORWARD_CLASSES 5
#define GRADIENT_CLASSES 10
#define GRADIENT_VECTORS 2

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

static inline f32_vector f32_fma(f32_vector a, f32_vector b, f32_vector c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline f64_vector f64_fma(f64_vector a, f64_vector b, f64_vector c)
{
    return _mm512_fmadd_pd(a, b, c);
}
/* four horizontal sums at once: fold quarter registers until the four share one, then within quarters */
static inline void f32_sum4(const f32_vector v[4], float out[4])
{
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44),
                                    _mm512_shuffle_f32x4(v[0], v[1], 0xee));
    const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44),
                                    _mm512_shuffle_f32x4(v[2], v[3], 0xee));
    __m512 abcd = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    abcd = _mm512_add_ps(abcd, _mm512_permute_ps(abcd, 0x4e));
    abcd = _mm512_add_ps(abcd, _mm512_permute_ps(abcd, 0xb1));
    _mm512_mask_compressstoreu_ps(out, 0x1111, abcd);
}
static inline void f64_sum4(const f64_vector v[4], double out[4])
{
    __m256d half[4];
    for (int r = 0; r < 4; r++)
        half[r] = _mm256_add_pd(_mm512_castpd512_pd256(v[r]), _mm512_extractf64x4_pd(v[r], 1));
    const __m256d ab = _mm256_hadd_pd(half[0], half[1]), cd = _mm256_hadd_pd(half[2], half[3]);
    _mm256_storeu_pd(out, _mm256_add_pd(_mm256_permute2f128_pd(ab, cd, 0x20),
                                        _mm256_permute2f128_pd(ab, cd, 0x31)));
}
