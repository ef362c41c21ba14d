/* The table of kernels that each instruction set exports, and what every kernel promises.
 *
 * W                 class-major: W[k * n_features + j]
 * logits, dlogits   class-major: logits[k * ld + i]. Softmax then runs along the rows, and few classes waste no lane. A
 *                   kernel that writes them may write up to the next multiple of 32 rows: ld must have room for that
 *
 * Each element is summed in one order. The order depends on n_features, n_rows, the instruction set and (of logits)
 * by_dots, but never on the tile that computes the element: so results are bitwise equal for any number of threads.
 * No kernel allocates, locks, prints or knows Python; the caller has checked the labels.
 */
#ifndef CSOFTMAX_KERNELS_H
#define CSOFTMAX_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Panels of floats: so many features of each row at a time for the first product (see PANEL in instance.h), and for the
 * second, as many as the widest tiles have. */
enum { FORWARD_PANEL = 256, GRADIENT_PANEL = 32 };
/* With KEEPS_APART (see instance.h), softmax keeps the exponentials of rows of up to so many bytes: with those of two
 * rows, the logits of one and of the next, an L2 of 1 MB is full. (With half as many, 1,024 x 65,536 takes 1.4 times as
 * long on Zen 4.) */
enum { MOST_KEPT = 1 << 18 };

/* How X is stored. Whatever that is, the compute type is that of W and b: float32 or float64. */
typedef enum { STORED_U8, STORED_F16, STORED_F32, STORED_F64, N_STORED_TYPES } stored_type;

/* Rows of X that a kernel multiplies, and those that come next, which it fetches meanwhile. */
typedef struct {
    const void *const *rows; /* a pointer for each: rows may lie anywhere, their items aligned to their own size */
    ptrdiff_t n_rows, n_features;
    const void *const *later;
    ptrdiff_t n_later;
    /* for a way that stages rows, that is, copies them to lie `stride` bytes apart: row i to staged + i * stride, with
       room up to a multiple of 32 rows and of 64 bytes. If staged is rows[0], they lie so already and are not copied */
    void *staged;
    ptrdiff_t stride;
} x_rows;

/* What turns rows into logits: logits[k][i] = scale * sum_j X[i][j] W[k][j] + b[k]. */
typedef struct {
    const void *W, *b;  /* (n_classes, n_features), (n_classes,) */
    ptrdiff_t n_classes;
    double scale;
    const void *packed; /* W as pack_weights of the way has rewritten it, or NULL */
    int by_dots;        /* floats are multiplied as dot products, not by panels: the sums have other bits */
} linear_map;

/* Where floats multiply, a gradient sums so many rows one by one before their sum joins a total, which keeps rounding
 * small. A block of more rows than that has a multiple of them (but for a batch's last): so its size changes no sum. */
enum { GRADIENT_CHUNK = 256 };

/* Where a gradient goes when its last row is summed: into `gradient`, or straight into W. */
typedef struct {
    void *W;             /* (n_classes, n_features), updated in place; NULL: store the gradient */
    void *velocity;      /* like W; NULL: no momentum */
    void *gradient;      /* like W; holds sums without the scale until the last rows. Unused if W is given and all rows
                            of the batch come at once */
    int first, last;     /* are these rows the first, the last that the sum takes? Where there are several partials, a
                            part never has the last: add_partials finishes the sum */
    double scale;        /* of the finished sums */
    double learning_rate, momentum, weight_decay;
    int nesterov;
} gradient_sink;

/* Lines of few entries: sparse rows, whose entries are features, or sparse columns, whose entries are rows. The entries
 * of line i are starts[i] .. starts[i + 1]; entry e is values[e], of the compute type, and stands for line at[e] of the
 * matrix that the lines are multiplied with. */
typedef struct {
    const int64_t *starts; /* n_lines + 1; the entries up to starts[n_lines] may be fetched */
    const int32_t *at;
    const void *values;
    ptrdiff_t n_lines;
} sparse_lines;

/* Where the sums of lines go: line i to out + (i - first_line) * ld. */
typedef struct {
    void *out;
    ptrdiff_t ld, first_line;
    const void *bias; /* added to each line; NULL: none */
    double scale;     /* of the finished sums */
    int adds;         /* to what is there */
} sparse_sink;

/* What so many steps of SGD without a gradient do to a weight and its velocity; the weight then moves by `shrinks`
 * toward 0. */
typedef struct {
    double W_of_W, W_of_velocity, velocity_of_W, velocity_of_velocity, shrinks;
} sparse_rests;

/* Rows by their classes, for solvers that keep them: all arrays but R have the rows of a class side by side, and the
 * classes ld apart, a multiple of LOGIT_ROWS; what lies beyond n_rows is 0 where it is read. */
enum { LOGIT_ROWS = 128 };
typedef struct {
    ptrdiff_t n_rows, n_classes, ld;
    const void *Z;        /* logits */
    void *delta, *P;      /* what a step adds to them; probabilities */
    void *R;              /* (n_rows, R_ld): the rows' part of the gradient, dlogits */
    ptrdiff_t R_ld;
    const int64_t *y;
    const double *weight; /* NULL: all rows weigh 1 */
} logit_rows;

/* The quadratic model of one class while the others stand still, and where coordinate descent has brought it.
 * Lines are columns of X: sparse ones or, where lines->starts is NULL, dense ones, line_ld apart and padded with 0 to
 * an even number of whole vectors. Coordinate e is the weight u[e] of line line_of[e]. */
typedef struct {
    const sparse_lines *lines;
    ptrdiff_t line_ld, n_rows, n_coordinates;
    const int32_t *line_of;
    void *u;              /* weights */
    const void *start;    /* where they were when the model was made */
    const void *gradient; /* of the mean loss, there */
    const void *room;     /* u stays so near to start */
    void *curvature;      /* < 0: not known yet */
    void *before;         /* scratch: n_coordinates */
    double l1, l2;        /* l1 |u| + l2 / 2 u^2 is added */
    const void *p, *delta, *s, *mass, *share; /* by row: of the class its probability, its delta; of the row
                                                 sum_l p_l delta_l, the probability of its wave, its part of a mean */
    const int64_t *y;     /* labels, and which class this is */
    int64_t number;
    int is_far;           /* curvatures of rows on the wrong side are secants, for steps that bring them over */
    double *bias;         /* how far the intercept has moved; NULL: there is none */
    double bias_gradient, bias_room;
    int n_rounds;         /* the first visits all coordinates, the others those that are not 0 */
    void *scratch;        /* 2 n_rows, padded */
    void *moved;          /* out: what this call adds to the class's delta, padded */
} class_model;

/* Gradients (n_features, n_classes) that are looked through for large ones; coordinates.h tells how. */
typedef struct {
    ptrdiff_t n_classes;
    const void *G, *null; /* null NULL: there is no R but G */
    const void *counts;
    const void *left, *c; /* left NULL: 0 */
    double mix;
    void *most, *most_dual; /* (n_features,) */
} slope_scan;

typedef void (*rows_kernel)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *x, ptrdiff_t x_stride,
                            void *out, ptrdiff_t out_stride, void *kept);
typedef void (*elementary_kernel)(ptrdiff_t n, const void *x, void *out);

/* How many of the rows that come next the first product fetches: the second fetches the others. */
typedef enum { FETCH_NONE, FETCH_HALF, FETCH_ALL } fetching;

/* A way of multiplying rows of one stored type: both products, and what they need. Sums may depend on which rows make a
 * block, but not on how the block is cut into pieces. */
typedef struct {
    /* what the way can do, and from where it pays; even_weights: sample weights must not be far apart */
    ptrdiff_t most_features, fewest_features, fewest_classes, fewest_rows;
    int even_weights;
    double speed;                /* against floats, roughly */
    int packs;                   /* does each thread rewrite W, and dlogits? Then pieces should be large */
    ptrdiff_t classes_at_once;   /* logits have room up to a multiple of so many classes */
    fetching forward_fetches;
    /* NULL, or what each thread calls before its first product and after its last */
    void (*open)(void);
    void (*close)(void);
    /* bytes of a staged row (0: none is staged), of packed weights (0: none are, forward reads W itself), and of the
       scratch of each product */
    ptrdiff_t (*row_bytes)(ptrdiff_t n_features);
    ptrdiff_t (*weights_bytes)(ptrdiff_t n_features, ptrdiff_t n_classes);
    ptrdiff_t (*forward_bytes)(ptrdiff_t n_rows, ptrdiff_t n_features);
    ptrdiff_t (*gradient_bytes)(ptrdiff_t n_rows, ptrdiff_t n_classes);
    /* returns 0 if W is not finite, or too uneven; not called where weights_bytes are 0 */
    int (*pack_weights)(const void *W, ptrdiff_t n_features, ptrdiff_t n_classes, void *packed);
    /* logits[k * ld + i] of x. Stages the rows for both products. Returns 0, having only staged, where this way cannot
       (its weights should be packed, but map->packed is NULL): then floats must serve */
    int (*forward)(const x_rows *x, const linear_map *map, void *logits, ptrdiff_t ld, void *scratch);
    /* sum_i dlogits[k * ld + i] X[i,j] for begin <= j < end, into the sink; begin is a multiple of 64, and so is end
       unless it is n_features; features begin .. end of x->later may be fetched. Returns 0, having done nothing, where
       this way cannot (one of dlogits is not finite): then floats must serve */
    int (*gradient)(const x_rows *x, ptrdiff_t begin, ptrdiff_t end, const void *dlogits, ptrdiff_t ld,
                    ptrdiff_t n_classes, const gradient_sink *sink, void *scratch);
} way_of_multiplying;

typedef struct {
    /* floats serve always. What multiplies faster is tried first, where it pays; NULL: there is none */
    const way_of_multiplying *floats[N_STORED_TYPES], *faster[N_STORED_TYPES];
    ptrdiff_t dot_classes; /* up to how many classes, of many features, dot products take less time than panels */
    /* g[k] = sum_i dlogits[k * ld + i], into the sink as one feature (n_features = 1) */
    void (*bias_gradient)(ptrdiff_t n_rows, const void *dlogits, ptrdiff_t ld, ptrdiff_t n_classes,
                          const gradient_sink *sink);
    /* the sum of several partial gradients, partial_size elements apart, goes into the sink: elements begin .. end */
    void (*add_partials)(const void *partials, ptrdiff_t partial_size, ptrdiff_t n_partials, ptrdiff_t begin,
                         ptrdiff_t end, const gradient_sink *sink);
    /* n sums of a leaf join a tree of doubles: nodes of the levels below `level` are added, each on the left, and the
       result is the node of `level`. Levels are `stride` doubles apart */
    void (*join_tree)(const void *sums, ptrdiff_t n, double *nodes, ptrdiff_t stride, int level);
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
    /* out[i][k] = scale * sum_e values[e] M[at[e]][k] + bias[k] over the entries of lines begin .. end; M is (any number
       of lines, ld), ld >= n_classes; values are squared if `squares`. Each element is summed in the order of the
       entries: chunks of GRADIENT_CHUNK, which join a total */
    void (*sparse_product)(const sparse_lines *lines, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t n_classes,
                           const void *M, ptrdiff_t ld, int squares, const sparse_sink *sink);
    /* sums[at[e]][k] += values[e] M[i][k] over the entries e of all rows i, one after the other, in float64; sums are
       (n_features, n_classes). A row of M of zeros adds nothing, whatever its values are */
    void (*sparse_add)(const sparse_lines *rows, ptrdiff_t n_classes, const void *M, ptrdiff_t ld, int squares,
                       double *sums);
    /* Line at[i] of sink->W (any number of lines, ld) and of sink->velocity takes a step by line i of the gradient, then
       moves by `shrinks` toward 0. No line comes twice */
    void (*sparse_step)(ptrdiff_t n_lines, const int32_t *at, ptrdiff_t n_classes, const void *gradient,
                        ptrdiff_t gradient_ld, ptrdiff_t ld, const gradient_sink *sink, double shrinks);
    /* Line at[i] of W and velocity (NULL: none) catches up on the steps that it has missed: rests[rested[i]] says what
       they do */
    void (*sparse_rest)(ptrdiff_t n_lines, const int32_t *at, const int32_t *rested, const sparse_rests *rests,
                        ptrdiff_t n_classes, void *W, void *velocity, ptrdiff_t ld);
    /* coordinates.h tells what these do; logit_step and logit_entropy return sums over at most LOGIT_ROWS rows, descend
       half of the sum of curvature * (a coordinate's move)^2 */
    double (*logit_step)(const logit_rows *rows, ptrdiff_t begin, ptrdiff_t n, double step);
    double (*logit_entropy)(const logit_rows *rows, ptrdiff_t begin, ptrdiff_t n, double factor, double mix,
                            const double *v);
    void (*join_moves)(const logit_rows *rows, ptrdiff_t begin, ptrdiff_t n, const int64_t *classes, ptrdiff_t n_moved,
                       const void *moved, void *s);
    double (*descend)(const class_model *m);
    /* pieces of long vectors: y += factor * x, and the sum of x * y, in order */
    void (*add_multiple)(ptrdiff_t n, double factor, const void *x, void *y);
    double (*product)(ptrdiff_t n, const void *x, const void *y);
    /* vectors of lines, each of n numbers: see lines.h */
    void (*solve_lines)(ptrdiff_t n_lines, ptrdiff_t n, const void *diagonal, double l2, const void *v, void *out);
    void (*finish_lines)(ptrdiff_t n_lines, ptrdiff_t n, double factor, const void *mean, const void *bias, double l2,
                         const void *x, void *g);
    double (*largest_of_lines)(ptrdiff_t n_lines, ptrdiff_t n, const void *mean, const void *bias, const void *g);
    void (*sum_lines)(ptrdiff_t n_lines, ptrdiff_t n, const void *factors, const void *x, void *sums);
    void (*follow)(const class_model *m);
    void (*couple)(const logit_rows *rows, ptrdiff_t begin, ptrdiff_t n, const void *delta, void *s);
    void (*slopes)(const class_model *m);
    void (*largest_slopes)(const slope_scan *scan, ptrdiff_t begin, ptrdiff_t end);
    /* the elementary functions themselves, for their tests: exp for x <= 0, log for x >= 1 */
    elementary_kernel exp_nonpositive, log_from_one;
    /* the limits of the machine, for the benchmark: n turns of multiply-adds in registers, returning their FLOP; and
       memory read once (its last few vectors excepted), returning some of its bits, so that the reads are needed */
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
