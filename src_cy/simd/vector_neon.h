/* NEON of AArch64: 32 registers of 16 bytes, fused multiply-add, half precision loads. */
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef float f32_vector __attribute__((vector_size(16)));
typedef int32_t f32_integers __attribute__((vector_size(16)));
typedef double f64_vector __attribute__((vector_size(16)));
typedef int64_t f64_integers __attribute__((vector_size(16)));

enum { f32_lanes = 4, f64_lanes = 2 };
#define TILE_CLASSES 10

static inline f32_vector f32_load_u8(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
}
static inline f32_vector f32_load_f16(const uint16_t *p)
{
    uint64_t four;
    memcpy(&four, p, sizeof four);
    return vcvt_f32_f16(vcreate_f16(four));
}
static inline f32_vector f32_load_f32(const float *p)
{
    f32_vector v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline f32_vector f32_load_f64(const double *p)
{
    return vcvt_high_f32_f64(vcvt_f32_f64(vld1q_f64(p)), vld1q_f64(p + 2));
}
static inline f64_vector f64_load_u8(const uint8_t *p)
{
    return (f64_vector){p[0], p[1]};
}
static inline f64_vector f64_load_f16(const uint16_t *p)
{
    uint32_t two;
    memcpy(&two, p, sizeof two);
    return vcvt_f64_f32(vget_low_f32(vcvt_f32_f16(vcreate_f16(two))));
}
static inline f64_vector f64_load_f32(const float *p)
{
    uint64_t two;
    memcpy(&two, p, sizeof two);
    return vcvt_f64_f32(vcreate_f32(two));
}
static inline f64_vector f64_load_f64(const double *p)
{
    f64_vector v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline f32_vector f32_fma(f32_vector a, f32_vector b, f32_vector c)
{
    return vfmaq_f32(c, a, b);
}
static inline f64_vector f64_fma(f64_vector a, f64_vector b, f64_vector c)
{
    return vfmaq_f64(c, a, b);
}
static inline f32_vector f32_load_first(const float *p, ptrdiff_t n, f32_vector fill)
{
    memcpy(&fill, p, (size_t)n * sizeof *p);
    return fill;
}
static inline void f32_store_first(float *p, f32_vector v, ptrdiff_t n)
{
    memcpy(p, &v, (size_t)n * sizeof *p);
}
static inline f64_vector f64_load_first(const double *p, ptrdiff_t n, f64_vector fill)
{
    memcpy(&fill, p, (size_t)n * sizeof *p);
    return fill;
}
static inline void f64_store_first(double *p, f64_vector v, ptrdiff_t n)
{
    memcpy(p, &v, (size_t)n * sizeof *p);
}
static inline void f32_transpose(f32_vector v[4])
{
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(v[0], v[1]));
    const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(v[0], v[1]));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(v[2], v[3]));
    const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(v[2], v[3]));
    v[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    v[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    v[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    v[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}
static inline void f64_transpose(f64_vector v[2])
{
    const float64x2_t first = vtrn1q_f64(v[0], v[1]);
    v[1] = vtrn2q_f64(v[0], v[1]);
    v[0] = first;
}
