/* One instruction set: every kernel once for float and once for double, then the table of both. */
#include "kernels.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define INLINE static inline __attribute__((always_inline))

/* Tiles hold TILE_CLASSES x TILE_VECTORS accumulators, or DOT_TILE_CLASSES x DOT_ROWS. A chunk is so many numbers that
 * are summed one by one before their sum joins a total: that keeps rounding small. */
enum {
    TILE_VECTORS = 2,
    PANEL = FORWARD_PANEL, /* features: 32 kB with the longest vectors (Zen 4: 1.03 times as long with 128) */
    DOT_FEATURES = 1024, /* of a tile of dot products: 20 to 24 kB of W for 5 or 6 classes */
    CHUNK = GRADIENT_CHUNK, /* rows */
    SPARSE_VECTORS = 8, /* of classes that a sparse line takes at once: more would read its entries no faster */
    ENTRIES_AHEAD = 16, /* entries: so far ahead the lines that they need are fetched */
    PRODUCT_TURNS = 16, /* of four vectors, summed in the compute type before they join a total of doubles */
    LINES_AHEAD = 4, /* lines of W: so far ahead of their step they are fetched */
    SUM_CHUNK = 64,  /* exponentials, in each lane */
    SHORT_ROW = 16,  /* vectors of a row, at most: such rows go several at once */
    LONG_ROW = 32768, /* bytes of a row, at least: L1 has no room for its exponentials too */
    ROW_CHUNK_BYTES = 8192, /* of a long row: it is read for its maximum, then from L1 for its sum */
};

/* A tile's loops are unrolled for its number of classes: a case for each, up to TILE_CLASSES. */
#define CASE(size, TILE_OF) case size: TILE_OF(size); break;
#if TILE_CLASSES == 6
#define MORE_CASES(TILE_OF)
#else
#define MORE_CASES(TILE_OF) CASE(7, TILE_OF) CASE(8, TILE_OF) CASE(9, TILE_OF) CASE(10, TILE_OF)
#endif
#define UP_TO_FIVE(TILE_OF)                                                                            \
    CASE(1, TILE_OF) CASE(2, TILE_OF) CASE(3, TILE_OF) CASE(4, TILE_OF) CASE(5, TILE_OF)
#define FOR_SIZE(n_classes, TILE_OF)                                                                   \
    switch (n_classes) { UP_TO_FIVE(TILE_OF) CASE(6, TILE_OF) MORE_CASES(TILE_OF) }

/* A subnormal result costs some 150 cycles: until put_back, such results become 0. */
static inline unsigned flush_subnormals(void)
{
#if defined(__x86_64__)
    const unsigned was = _mm_getcsr();
    _mm_setcsr(was | 0x8000);
    return was;
#else
    return 0;
#endif
}

static inline void put_back(unsigned was)
{
#if defined(__x86_64__)
    _mm_setcsr(was);
#else
    (void)was;
#endif
}

/* For ways that stage no rows, or pack no weights. */
static inline ptrdiff_t no_row_bytes(ptrdiff_t n_features)
{
    (void)n_features;
    return 0;
}

static inline ptrdiff_t no_weights_bytes(ptrdiff_t n_features, ptrdiff_t n_classes)
{
    (void)n_features, (void)n_classes;
    return 0;
}

/* Rows that will be read next. A product fetches a few of their lines at a time: then nothing waits for them, and they
 * are there when they are wanted. One whole row follows the other, as that is how memory is fastest. */
typedef struct {
    const void *const *rows;
    ptrdiff_t n_rows, begin, end; /* bytes begin .. end of each row are wanted */
    ptrdiff_t at;                 /* of the first row, the bytes before `at` have been fetched */
} upcoming;

INLINE void fetch_lines(upcoming *next, int n)
{
    for (; n > 0 && next->n_rows > 0; n--) {
        __builtin_prefetch((const char *)*next->rows + next->at, 0, 2);
        next->at += 64;
        if (next->at >= next->end) {
            next->at = next->begin;
            next->rows++;
            next->n_rows--;
        }
    }
}

/* DOT_CLASSES: with up to so many classes (of a head), logits are dot products. 0 where nobody has measured it: then
 * only the logits of a batch of one row are. */
#if !defined(DOT_CLASSES)
#define DOT_CLASSES 0
#define DOT_ROWS 1
#define DOT_TILE_CLASSES TILE_CLASSES
#define DOT_STEP 8
#endif
#if DOT_TILE_CLASSES == 5
#define FOR_DOT_SIZE(n_classes, TILE_OF) switch (n_classes) { UP_TO_FIVE(TILE_OF) }
#else
#define FOR_DOT_SIZE FOR_SIZE
#endif
/* Softmax needs the exponentials of a row twice: for their sum, then for the result. Rows of 32 kB and more keep them
 * where the result will be (KEEPS_IN_PLACE); or, up to MOST_KEPT bytes, there too, but in scratch if the result is
 * written past the caches (KEEPS_APART); otherwise they are computed again. */
#if !defined(KEEPS_IN_PLACE)
#define KEEPS_IN_PLACE 0
#endif
#if !defined(KEEPS_APART)
#define KEEPS_APART 0
#endif
typedef enum { KEPT, EXPONENTIAL, LOGARITHM } row_finish; /* see `finished` in softmax_rows.h */
#if !defined(IN_REGISTER)
#define IN_REGISTER(v)
#endif

#define F32 1
#define T float
#define TYPE f32
#include "elementary.h"
#include "softmax_columns.h"
#include "softmax_rows.h"
#include "products.h"
#include "sparse.h"
#include "sparse_updates.h"
#include "coordinates.h"
#include "lines.h"
#define STORED u8
#define S uint8_t
#if defined(HAS_PACK_U8)
#define PACK_WHOLE f32_pack_u8
#endif
#include "floats.h"
#if defined(HAS_AMX_TILES)
#define FASTER .faster = {&digits, &bfloat_way_f16_f32, &bfloat_way_f32_f32},
#elif defined(HAS_DIGITS)
#define FASTER .faster = {&digits},
#else
#define FASTER
#endif
#if defined(HAS_DIGITS)
#include "digits.h"
#endif
#define STORED f16
#define S uint16_t
#if defined(HAS_AMX_TILES)
#define X_TERMS 2
#endif
#include "floats.h"
#define STORED f32
#define S float
#if defined(HAS_AMX_TILES)
#define X_TERMS 3
#endif
#include "floats.h"
#define STORED f64
#define S double
#include "floats.h"
#undef F32
#undef T
#undef TYPE

#define F32 0
#define T double
#define TYPE f64
#include "elementary.h"
#include "softmax_columns.h"
#include "softmax_rows.h"
#include "products.h"
#include "sparse.h"
#include "sparse_updates.h"
#include "coordinates.h"
#include "lines.h"
#define STORED u8
#define S uint8_t
#include "floats.h"
#define STORED f16
#define S uint16_t
#include "floats.h"
#define STORED f32
#define S float
#include "floats.h"
#define STORED f64
#define S double
#include "floats.h"
#undef F32
#undef T
#undef TYPE

#define ROW_KERNELS(type)                                                                          \
    .dot_classes = DOT_CLASSES,                                                                    \
    .bias_gradient = bias_gradient_##type, .add_partials = add_partials_##type,                    \
    .join_tree = join_tree_##type,                                                                 \
    .cross_entropy_columns = cross_entropy_columns_##type,                                         \
    .softmax_columns = softmax_columns_##type, .transpose = transpose_##type,                      \
    .argmax_columns = argmax_columns_##type, .softmax_rows = softmax_rows_##type,                  \
    .log_softmax_rows = log_softmax_rows_##type, .cross_entropy_rows = cross_entropy_rows_##type,  \
    .exp_nonpositive = exp_nonpositive_##type, .log_from_one = log_from_one_##type,                \
    .sparse_product = sparse_product_##type, .sparse_add = sparse_add_##type,                      \
    .sparse_step = sparse_step_##type, .sparse_rest = sparse_rest_##type,                          \
    .logit_step = logit_step_##type, .logit_entropy = logit_entropy_##type,                        \
    .join_moves = join_moves_##type, .descend = descend_##type,                                    \
    .add_multiple = add_multiple_##type, .product = product_##type,                                \
    .solve_lines = solve_lines_##type, .finish_lines = finish_lines_##type,                        \
    .largest_of_lines = largest_of_lines_##type, .sum_lines = sum_lines_##type,                    \
    .follow = follow_##type, .couple = couple_##type, .slopes = slopes_##type,                     \
    .largest_slopes = largest_slopes_##type,                                                       \
    .multiply_adds = multiply_adds_##type, .read_all = read_all_##type

#define STRING_(x) #x
#define STRING(x) STRING_(x)

const instruction_set PASTE(kernels, ISA) = {
    .name = STRING(ISA),
    .f32 = {.floats = {&floats_u8_f32, &floats_f16_f32, &floats_f32_f32, &floats_f64_f32}, FASTER ROW_KERNELS(f32)},
    .f64 = {.floats = {&floats_u8_f64, &floats_f16_f64, &floats_f32_f64, &floats_f64_f64}, ROW_KERNELS(f64)},
};
