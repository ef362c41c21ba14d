/* No instruction set beyond the platform's own: GCC's generic vectors of 16 bytes, which the compiler
 * lowers to whatever the base architecture has, and no fused multiply-add (each operation rounds). */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef float f32_vector __attribute__((vector_size(16)));
typedef int32_t f32_integers __attribute__((vector_size(16)));
typedef double f64_vector __attribute__((vector_size(16)));
typedef int64_t f64_integers __attribute__((vector_size(16)));

enum { f32_lanes = 4, f64_lanes = 2 };
#define TILE_CLASSES 6

static inline f32_vector f32_load_u8(const uint8_t *p)
{
    return (f32_vector){p[0], p[1], p[2], p[3]};
}
static inline f32_vector f32_load_f16(const uint16_t *p)
{
    /* shift the exponent and fraction into place, let one exact product rebias the exponent (and
       normalise the subnormal), then restore infinities, NaN and the sign */
    const f32_integers h = {p[0], p[1], p[2], p[3]};
    const f32_integers magnitude = (h & 0x7fff) << 13;
    const f32_vector rebiased = (f32_vector)magnitude * 0x1p112f;
    const f32_integers special = (magnitude >= 0x0f800000) & 0x7f800000;
    return (f32_vector)((f32_integers)rebiased | special | ((h & 0x8000) << 16));
}
static inline f32_vector f32_load_f32(const float *p)
{
    f32_vector v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline f32_vector f32_load_f64(const double *p)
{
    return (f32_vector){(float)p[0], (float)p[1], (float)p[2], (float)p[3]};
}
static inline f64_vector f64_load_u8(const uint8_t *p)
{
    return (f64_vector){p[0], p[1]};
}
static inline f64_vector f64_load_f16(const uint16_t *p)
{
    const uint16_t four[4] = {p[0], p[1], 0, 0};
    const f32_vector v = f32_load_f16(four);
    return (f64_vector){v[0], v[1]};
}
static inline f64_vector f64_load_f32(const float *p)
{
    float two[2];
    memcpy(two, p, sizeof two);
    return (f64_vector){two[0], two[1]};
}
static inline f64_vector f64_load_f64(const double *p)
{
    f64_vector v;
    memcpy(&v, p, sizeof v);
    return v;
}

#define NO_FMA
static inline f32_vector f32_fma(f32_vector a, f32_vector b, f32_vector c)
{
    return a * b + c;
}
static inline f64_vector f64_fma(f64_vector a, f64_vector b, f64_vector c)
{
    return a * b + c;
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
    for (int r = 0; r < 4; r++)
        for (int c = r + 1; c < 4; c++) {
            const float corner = v[r][c];
            v[r][c] = v[c][r];
            v[c][r] = corner;
        }
}
static inline void f64_transpose(f64_vector v[2])
{
    const double corner = v[0][1];
    v[0][1] = v[1][0];
    v[1][0] = corner;
}
