/* AVX2 with FMA and F16C: 16 registers of 32 bytes. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef float f32_vector __attribute__((vector_size(32)));
typedef int32_t f32_integers __attribute__((vector_size(32)));
typedef double f64_vector __attribute__((vector_size(32)));
typedef int64_t f64_integers __attribute__((vector_size(32)));

enum { f32_lanes = 8, f64_lanes = 4 };
/* 10 accumulators + 2 of x + 1 of w or of a broadcast: 13 of the 16 registers */
#define FORWARD_ROWS 2
#define FORWARD_CLASSES 5
#define GRADIENT_CLASSES 5
#define GRADIENT_VECTORS 2

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

static inline f32_vector f32_fma(f32_vector a, f32_vector b, f32_vector c)
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline f64_vector f64_fma(f64_vector a, f64_vector b, f64_vector c)
{
    return _mm256_fmadd_pd(a, b, c);
}
/* four horizontal sums at once: pairwise adds that transpose as they go */
static inline void f32_sum4(const f32_vector v[4], float out[4])
{
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}
static inline void f64_sum4(const f64_vector v[4], double out[4])
{
    const __m256d ab = _mm256_hadd_pd(v[0], v[1]), cd = _mm256_hadd_pd(v[2], v[3]);
    _mm256_storeu_pd(out, _mm256_add_pd(_mm256_permute2f128_pd(ab, cd, 0x20),
                                        _mm256_permute2f128_pd(ab, cd, 0x31)));
}
