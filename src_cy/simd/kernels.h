/* The table of kernels that each instruction set exports, and what every kernel promises.
 *
 * n_rows x n_features   a block of X, given as one pointer per row (rows may lie anywhere, their items
 *                       aligned to their own size)
 * W                     class-major: W[k * n_features + j]
 * logits, dlogits       class-major: logits[k * ld + i], so that softmax runs along the rows and wastes no
 *                       vector lane on few classes; a kernel that writes them may write the rows up to the
 *                       next multiple of 32, for which ld must have room
 *
 * Every element is summed in one order that depends on n_features, n_rows and the instruction set alone,
 * never on which tile it fell into: that is what makes results bitwise equal for any thread count. (Logits, also on
 * whether there are few classes: see dots.)
 * No kernel allocates, locks, prints or knows Python; labels have been checked by the caller.
 */
#ifndef CSOFTMAX_KERNELS_H
#define CSOFTMAX_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Scratch, in elements of the compute type per row: what the widest tiles need. */
enum { FORWARD_PANEL = 256, GRADIENT_PANEL = 32 };
/* Bytes of a row's exponentials, at most: those of two rows, the logits of one and of the next fill a second cache of
 * 1 MB (half as many on Zen 4: 1,024 x 65,536 takes 1.4 times as long). */
enum { MOST_KEPT = 1 << 18 };

/* How X is stored; whatever it is, it is computed in float32 or float64 as W and b are stored. */
enum { FROM_U8, FROM_F16, FROM_F32, FROM_F64, N_SOURCES };

/* Rows of a gradient that are summed one by one before they join a total: a block of a batch that has
 * several has a multiple of so many rows, so that no sum depends on how large the blocks are. */
enum { GRADIENT_CHUNK = 256 };

/* Where a gradient tile goes when its last row is summed: into `gradient`, or straight into W. */
typedef struct {
    void *W;             /* (n_classes, n_features), updated in place; NULL: store the gradient */
    void *velocity;      /* like W; NULL: no momentum */
    void *gradient;      /* like W, unscaled until the last rows; unused when all rows of the batch come at
                            once and W is given */
    int first, last;     /* are these rows the first, the last of their batch? */
    double learning_rate, momentum, weight_decay;
    int nesterov;
} gradient_sink;

typedef void (*forward_kernel)(const void *const *rows, const void *const *later, ptrdiff_t n_rows,
                               ptrdiff_t n_features, const void *W, const void *b, ptrdiff_t n_classes, double scale,
                               void *logits, ptrdiff_t ld, void *panel);
typedef void (*gradient_kernel)(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t n_features,
                                ptrdiff_t begin, ptrdiff_t end, const void *dlogits, ptrdiff_t ld,
                                ptrdiff_t n_classes, double scale, const gradient_sink *sink,
                                void *panel);
typedef void (*rows_kernel)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *x, ptrdiff_t x_stride,
                            void *out, ptrdiff_t out_stride, void *kept);
typedef void (*elementary_kernel)(ptrdiff_t n, const void *x, void *out);

/* A second way for one stored type, where the CPU multiplies tiles or bytes; W is rewritten for it. Sums may
 * depend on which rows make a block, and on nothing else. */
typedef struct {
    ptrdiff_t most_features, fewest_classes, fewest_rows; /* what it can do, and from where it pays */
    double speed;         /* against floats, roughly */
    int fetches_in_forward; /* does the first product fetch half of the rows that come next? */
    /* each thread opens the tile unit before its first product and closes it after its last */
    void (*open)(void);
    void (*close)(void);
    /* bytes of a staged row (0: none is), of packed weights (0: the forward kernel packs them itself, as it goes), of
       scratch */
    ptrdiff_t (*row_bytes)(ptrdiff_t n_features);
    ptrdiff_t (*weights_bytes)(ptrdiff_t n_features, ptrdiff_t n_classes);
    ptrdiff_t (*forward_bytes)(ptrdiff_t n_features);
    ptrdiff_t (*gradient_bytes)(ptrdiff_t n_rows, ptrdiff_t n_classes);
    /* returns 0 if W is not finite, or too uneven: then the forward kernel above must serve */
    int (*pack_weights)(const void *W, ptrdiff_t n_features, ptrdiff_t n_classes, void *packed);
    /* as the forward kernel, but logits have room up to a multiple of 32 classes too, and any number of rows come
       next. The rows are staged for both products (if row_bytes is not 0), `stride` bytes apart, with room up to a
       multiple of 32 rows and of 64 bytes: by this kernel, unless staged is rows[0], as they lie so already. Returns
       0, having only staged, if there should be packed weights and packed is NULL */
    int (*forward)(const void *const *rows, ptrdiff_t n_rows, const void *const *later, ptrdiff_t n_later,
                   ptrdiff_t n_features, const void *W, const void *packed, const void *b, ptrdiff_t n_classes,
                   double scale, void *logits, ptrdiff_t ld, void *staged, ptrdiff_t stride, void *scratch);
    /* as the gradient kernel; features begin .. end of n_later rows of `later` may be fetched;
       returns 0, having done nothing, if one of dlogits is not finite */
    int (*gradient)(const void *staged, ptrdiff_t stride, const void *const *rows, ptrdiff_t n_rows,
                    const void *const *later, ptrdiff_t n_later, ptrdiff_t n_features, ptrdiff_t begin, ptrdiff_t end,
                    const void *dlogits, ptrdiff_t ld, ptrdiff_t n_classes, double scale, const gradient_sink *sink,
                    void *scratch);
} tile_kernels;

typedef struct {
    /* logits[k * ld + i] = scale * sum_j X[i,j] W[k,j] + b[k];
       later: n_rows rows that come next, which are fetched meanwhile, or NULL;
       panel: scratch for FORWARD_PANEL elements per row, n_rows rounded up to a multiple of 32 */
    forward_kernel forward[N_SOURCES];
    /* the same by dot products, without the panel: for a row alone, and for up to dot_classes classes of many features;
       the lanes are features, so the sums have other bits */
    forward_kernel dots[N_SOURCES];
    ptrdiff_t dot_classes;
    /* g[k,j] = scale * sum_i dlogits[k * ld + i] X[i,j] for begin <= j < end, then into the sink;
       begin is a multiple of 64, end another or n_features;
       panel: scratch for GRADIENT_PANEL elements per row */
    gradient_kernel gradient[N_SOURCES];
    const tile_kernels *tiles[N_SOURCES]; /* NULL: none */
    /* g[k] = sum_i dlogits[k * ld + i], into the sink as one feature (n_features = 1) */
    void (*bias_gradient)(ptrdiff_t n_rows, const void *dlogits, ptrdiff_t ld, ptrdiff_t n_classes,
                          const gradient_sink *sink);
    /* the sum of several gradients, lane_size elements apart, goes into the sink, scaled: elements begin .. end */
    void (*add_lanes)(const void *lanes, ptrdiff_t lane_size, ptrdiff_t n_lanes, ptrdiff_t begin, ptrdiff_t end,
                      double scale, const gradient_sink *sink);
    /* class-major logits -> losses (nats) and predictions and, if factors is not NULL, dlogits in place:
       factors[i] * (softmax(logits[i]) - onehot(y[i])) */
    void (*cross_entropy_columns)(ptrdiff_t n_rows, ptrdiff_t n_classes, void *logits, ptrdiff_t ld,
                                  const int64_t *y, const void *factors, void *losses,
                                  int64_t *predictions);
    /* class-major logits -> softmax or log_softmax, in place */
    void (*softmax_columns)(ptrdiff_t n_rows, ptrdiff_t n_classes, void *logits, ptrdiff_t ld, int logarithm);
    /* out[c * ld_out + r] = in[r * ld_in + c] */
    void (*transpose)(ptrdiff_t n_rows, ptrdiff_t n_columns, const void *in, ptrdiff_t ld_in, void *out,
                      ptrdiff_t ld_out);
    /* predictions[i] = the first k with the largest logit (or the first NaN), as numpy.argmax */
    void (*argmax_columns)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *logits, ptrdiff_t ld,
                           int64_t *predictions);
    /* rows of contiguous classes; out may be x; kept: NULL, or scratch for two rows of whole vectors, each MOST_KEPT
       bytes at most: then rows of more than 16 vectors may be written past the caches */
    rows_kernel softmax_rows, log_softmax_rows;
    /* The target of row i is dense[i * dense_stride + k] (dense NULL: 0) plus label_weight[y[i]]
       (NULL: 1) at k = y[i] (y NULL: no label); a row with y[i] == ignored has loss and gradient 0.
       losses[i] = -sum_k target[k] log p[k]; dlogits (NULL: none; it may be logits) = factor * its gradient;
       kept: as above. */
    void (*cross_entropy_rows)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *logits,
                               ptrdiff_t logits_stride, const void *dense, ptrdiff_t dense_stride,
                               const int64_t *y, int64_t ignored, const void *label_weight,
                               double factor, void *losses, void *dlogits, ptrdiff_t dlogits_stride, void *kept);
    /* the elementary functions themselves, for their tests: exp for x <= 0, log for x >= 1 */
    elementary_kernel exp_nonpositive, log_from_one;
    /* the limits of the machine, for the benchmark: n rounds of multiply-adds in registers, returning
       their FLOP; the sum of all bits of a 64-byte aligned block, read once */
    double (*multiply_adds)(ptrdiff_t n, void *result);
    int64_t (*read_all)(const void *block, ptrdiff_t n_bytes);
} kernel_table;

typedef struct {
    const char *name;
    kernel_table f32, f64;
} instruction_set;

extern const instruction_set kernels_scalar, kernels_avx2, kernels_avx512, kernels_vnni, kernels_amx, kernels_neon;

/* Does the compiler know the tile instructions? */
#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define HAS_AMX 1
#else
#define HAS_AMX 0
#endif

enum { MOST_INSTRUCTION_SETS = 6 };

/* The instruction sets that this machine can run, best first; returns how many (scalar is always one). */
int available_instruction_sets(const instruction_set *found[MOST_INSTRUCTION_SETS]);

#endif
