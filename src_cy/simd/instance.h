/* One instruction set: the body once for float and once for double, then the table of both. */
#include "kernels.h"

#include <math.h>
#include <stddef.h>

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define INLINE static inline __attribute__((always_inline))

#define F32 1
#define T float
#define TYPE f32
#include "body.h"
#define SOURCE u8
#define S uint8_t
#include "tiles.h"
#define SOURCE f16
#define S uint16_t
#include "tiles.h"
#define SOURCE f32
#define S float
#include "tiles.h"
#define SOURCE f64
#define S double
#include "tiles.h"
#undef F32
#undef T
#undef TYPE

#define F32 0
#define T double
#define TYPE f64
#include "body.h"
#define SOURCE u8
#define S uint8_t
#include "tiles.h"
#define SOURCE f16
#define S uint16_t
#include "tiles.h"
#define SOURCE f32
#define S float
#include "tiles.h"
#define SOURCE f64
#define S double
#include "tiles.h"
#undef F32
#undef T
#undef TYPE

#define ROW_KERNELS(type)                                                                          \
    .bias_gradient = bias_gradient_##type, .cross_entropy_columns = cross_entropy_columns_##type,  \
    .argmax_columns = argmax_columns_##type, .softmax_rows = softmax_rows_##type,                  \
    .log_softmax_rows = log_softmax_rows_##type, .cross_entropy_rows = cross_entropy_rows_##type,  \
    .exp_nonpositive = exp_nonpositive_##type, .log_from_one = log_from_one_##type,                \
    .multiply_adds = multiply_adds_##type, .read_all = read_all_##type

#define STRING_(x) #x
#define STRING(x) STRING_(x)

const instruction_set PASTE(kernels, ISA) = {
    .name = STRING(ISA),
    .f32 = {.forward = {forward_u8_f32, forward_f16_f32, forward_f32_f32, forward_f64_f32},
            .gradient = {gradient_u8_f32, gradient_f16_f32, gradient_f32_f32, gradient_f64_f32},
            ROW_KERNELS(f32)},
    .f64 = {.forward = {forward_u8_f64, forward_f16_f64, forward_f32_f64, forward_f64_f64},
            .gradient = {gradient_u8_f64, gradient_f16_f64, gradient_f32_f64, gradient_f64_f64},
            ROW_KERNELS(f64)},
};
