/* Every kernel of every instruction set that this machine has, outside of Python: built for another
 * architecture, it runs under an emulator.
 *
 * All are held to the scalar kernels: the matrix products, of dense rows and of sparse ones, equal, for they get small
 * multiples of 1/8, whose sums are exact in any order; the softmax family, and what the solvers call, to a few
 * roundings. exp and log are held to the C library. Each array ends where a page begins that must not be touched. */
#include "arrays.h"
#include "sparse.h"
#include "solver.h" /* of what the two before it have */

/* ---- matrix products ---- */

/* small integers, exact in each way of storing X */
static void store(stored_type type, void *p, ptrdiff_t j, int value)
{
    int exponent = 0;
    if (type == STORED_U8)
        ((uint8_t *)p)[j] = (uint8_t)value;
    else if (type == STORED_F32)
        ((float *)p)[j] = (float)value;
    else if (type == STORED_F64)
        ((double *)p)[j] = value;
    else {
        const int fraction = (int)(frexp(value, &exponent) * 2048);
        ((uint16_t *)p)[j] = (uint16_t)(value ? ((exponent + 14) << 10) + fraction - 1024 : 0);
    }
}
static const void **random_rows(stored_type type, ptrdiff_t n_rows, ptrdiff_t n_features)
{
    static const int sizes[N_STORED_TYPES] = {1, 2, 4, 8};
    const ptrdiff_t row_bytes = n_features * sizes[type];
    char *stored = take(n_rows, row_bytes);
    const void **rows = take(n_rows, sizeof *rows);
    for (ptrdiff_t i = 0; i < n_rows; i++) { /* in another order than they are stored */
        rows[i] = stored + (n_rows - 1 - i) * row_bytes;
        for (ptrdiff_t j = 0; j < n_features; j++)
            store(type, stored + i * row_bytes, j, uniform(16));
    }
    return rows;
}

static void test_forward(stored_type type, ptrdiff_t n, ptrdiff_t features, ptrdiff_t classes)
{
    const ptrdiff_t ld = (n + LD - 1) / LD * LD;
    const void **rows = random_rows(type, n, features), **later = uniform(2) ? rows : NULL;
    const x_rows x = {.rows = rows, .n_rows = n, .n_features = features, .later = later, .n_later = later ? n : 0};
    linear_map map = {.W = eighths(classes * features), .b = eighths(classes), .n_classes = classes, .scale = 0.5};
    void *logits[3], *panel = reals(FORWARD_PANEL * ld);
    for (int t = 0; t < 3; t++) {
        map.by_dots = t == 1;
        tables[t / 2]->floats[type]->forward(&x, &map, logits[t] = reals(classes * ld), ld, panel);
    }
    for (int t = 0; t < 2; t++)
        for (ptrdiff_t k = 0; k < classes; k++)
            check_all(t == 0 ? "panels" : "dots", (char *)logits[t] + k * ld * size, (char *)logits[2] + k * ld * size,
                      n, 0, 0);
    release();
}

static void test_gradient(stored_type type, ptrdiff_t n, ptrdiff_t features, ptrdiff_t classes, int variant)
{
    const ptrdiff_t ld = (n + LD - 1) / LD * LD, n_weights = classes * features;
    const x_rows x = {.rows = random_rows(type, n, features), .n_rows = n, .n_features = features};
    const void *dlogits = eighths(classes * ld);
    void *panel = reals(GRADIENT_PANEL * n);
    gradient_sink sinks[2] = {{.gradient = eighths(n_weights), .W = eighths(n_weights), .velocity = eighths(n_weights),
                               .first = variant & 1, .last = variant & 2, .nesterov = variant & 16,
                               .scale = 0.5, .learning_rate = 0.5, .momentum = 0.5, .weight_decay = variant & 32 ? 0.25 : 0}};
    const gradient_sink all = sinks[1] = sinks[0];
    sinks[1].gradient = copy(all.gradient, n_weights);
    sinks[1].W = copy(all.W, n_weights), sinks[1].velocity = copy(all.velocity, n_weights);
    const void *partials = eighths(3 * n_weights);
    enum { WEIGHTS, BIAS, ADD_PARTIALS }; /* the bias is a sink's one feature */
    for (int what = WEIGHTS; what <= (features > 0 ? ADD_PARTIALS : WEIGHTS); what++) {
        for (int t = 0; t < 2; t++) {
            gradient_sink sink = sinks[t];
            if (!(variant & 4))
                sink.W = NULL;
            if (!(variant & 8))
                sink.velocity = NULL;
            for (ptrdiff_t j = 0; j < features && what == WEIGHTS; j += 64)
                tables[t]->floats[type]->gradient(&x, j, j + 64 < features ? j + 64 : features, dlogits, ld, classes,
                                                  &sink, panel);
            if (what == BIAS)
                tables[t]->bias_gradient(n, dlogits, ld, classes, &sink);
            if (what == ADD_PARTIALS)
                tables[t]->add_partials(partials, n_weights, 1 + variant % 3, 0, n_weights, &sink);
        }
        check_all("gradient", sinks[0].gradient, sinks[1].gradient, n_weights, 0, 0);
        check_all("W", sinks[0].W, sinks[1].W, n_weights, 0, 0);
        check_all("velocity", sinks[0].velocity, sinks[1].velocity, n_weights, 0, 0);
    }
    release();
}

static void test_every_half(void)
{
    for (int first = 0; first < 1 << 16; first += LD) {
        uint16_t *halves = take(LD, 2);
        const void **rows = take(LD, sizeof *rows);
        void *one = reals(1), *zero = reals(1), *values[2], *panel = reals(FORWARD_PANEL * LD);
        const x_rows x = {.rows = rows, .n_rows = LD, .n_features = 1};
        const linear_map map = {.W = one, .b = zero, .n_classes = 1, .scale = 1};
        put(one, 0, 1), put(zero, 0, 0);
        for (int i = 0; i < LD; i++)
            halves[i] = (uint16_t)(first + i), rows[i] = halves + i;
        for (int t = 0; t < 2; t++)
            tables[t]->floats[STORED_F16]->forward(&x, &map, values[t] = reals(LD), LD, panel);
        check_all("float16", values[0], values[1], LD, 0, 0);
        release();
    }
}

/* ---- the softmax family ---- */

static void *random_logits(ptrdiff_t n)
{
    static const double special[] = {NAN, INFINITY, -INFINITY, 1e30, -1e30, 0};
    void *p = reals(n);
    const int specials = uniform(3) == 0;
    for (ptrdiff_t i = 0; i < n; i++)
        put(p, i, specials && uniform(12) == 0 ? special[uniform(6)] : (uniform(20001) - 10000) / 300.0);
    return p;
}
static void test_columns(ptrdiff_t n, ptrdiff_t classes)
{
    const ptrdiff_t ld = (n + LD - 1) / LD * LD;
    void *x = random_logits(classes * ld), *factors = uniform(4) ? eighths(n) : NULL;
    void *losses[2], *dlogits[2], *probs[2], *log_probs[2], *flipped = reals(classes * ld);
    int64_t *y = take(n, 8), *argmax[2], *predictions[2];
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = uniform((int)classes);
    for (int t = 0; t < 2; t++) {
        argmax[t] = take(n, 8), predictions[t] = take(n, 8), losses[t] = reals(n);
        tables[t]->argmax_columns(n, classes, x, ld, argmax[t]);
        tables[t]->cross_entropy_columns(n, classes, dlogits[t] = copy(x, classes * ld), ld, y, factors, losses[t],
                                         predictions[t]);
        tables[t]->softmax_columns(n, classes, probs[t] = copy(x, classes * ld), ld, 0);
        tables[t]->softmax_columns(n, classes, log_probs[t] = copy(x, classes * ld), ld, 1);
    }
    tables[0]->transpose(classes, ld, x, ld, flipped, classes);
    check_all("losses", losses[0], losses[1], n, 8, 1);
    for (ptrdiff_t i = 0; i < n; i++) {
        check("argmax", i, (double)argmax[0][i], (double)argmax[1][i], 0, 0);
        check("predictions", i, (double)predictions[0][i], (double)argmax[1][i], 0, 0);
        for (ptrdiff_t k = 0, p = i; k < classes; k++, p += ld) {
            check("transposed", p, at(flipped, i * classes + k), at(x, p), 0, 0);
            check("softmax", p, at(probs[0], p), at(probs[1], p), 32, tiny);
            check("log_softmax", p, at(log_probs[0], p), at(log_probs[1], p), 8, 1);
            if (factors)
                check("dlogits", p, at(dlogits[0], p), at(dlogits[1], p), 32, 0.5);
        }
    }
    release();
}

/* the logits, or a copy of them where the result will go */
static const void *read_from(const void *x, void *out, ptrdiff_t n, int in_place)
{
    return in_place ? memcpy(out, x, (size_t)(n * size)) : x;
}

static void test_rows(ptrdiff_t n, ptrdiff_t classes)
{
    const ptrdiff_t n_logits = n * classes;
    void *x = random_logits(n_logits), *dense = eighths(n_logits), *weight = eighths(classes);
    void *out[2] = {reals(n_logits), reals(n_logits)}, *losses[2] = {reals(n), reals(n)};
    int64_t *y = take(n, 8);
    for (ptrdiff_t i = 0; i < n_logits; i++)
        put(dense, i, fmax(at(dense, i), 0));
    for (ptrdiff_t k = 0; k < classes; k++)
        put(weight, k, fabs(at(weight, k)));
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = uniform(8) ? uniform((int)classes) : -100;
    const ptrdiff_t row = (classes * size + 63) / 64 * 64;
    void *kept[] = {NULL, reals(2 * (row < MOST_KEPT ? row : MOST_KEPT) / size)}; /* past the caches */
    for (int way = 0; way < 4; way++) {
        for (int t = 0; t < 2; t++)
            tables[t]->softmax_rows(n, classes, read_from(x, out[t], n_logits, way / 2), classes, out[t], classes,
                                    kept[way % 2]);
        check_all("softmax", out[0], out[1], n_logits, 32, tiny);
        for (int t = 0; t < 2; t++)
            tables[t]->log_softmax_rows(n, classes, read_from(x, out[t], n_logits, way / 2), classes, out[t], classes,
                                        kept[way % 2]);
        check_all("log_softmax", out[0], out[1], n_logits, 8, 1);
    }
    for (int variant = 0; variant < 64; variant++) {
        for (int t = 0; t < 2; t++)
            tables[t]->cross_entropy_rows(
                n, classes, read_from(x, out[t], n_logits, (variant & 40) == 40), classes, variant & 1 ? dense : NULL,
                classes, variant & 4 ? y : NULL, -100, variant & 2 ? weight : NULL, 0.5, losses[t],
                variant & 8 ? out[t] : NULL, classes, kept[variant / 16 % 2]);
        check_all("losses", losses[0], losses[1], n, 32, 64.0 * (double)classes);
        check_all("dlogits", out[0], out[1], n_logits, 32, 2.0 * (double)classes);
    }
    release();
}

/* ---- exp, log, and the limits of the machine ---- */

static void test_elementary(void)
{
    enum { N = 1021 }; /* whole vectors and a tail */
    const double lowest = f64 ? -745.2 : -104, digits = f64 ? 53 : 24, smallest = f64 ? -1074 : -149;
    for (int is_log = 0; is_log < 2; is_log++) {
        double worst = 0;
        for (int round = 0; round < 60; round++) {
            void *x = reals(N), *out = reals(N);
            for (int i = 0; i < N; i++) {
                const double u = uniform(1 << 30) * 0x1p-30;
                put(x, i, is_log ? exp(round % 2 ? 20 * u : u * u) : round % 2 ? lowest * u : -exp(8 * u - 5));
            }
            (is_log ? tables[0]->log_from_one : tables[0]->exp_nonpositive)(N, x, out);
            for (int i = 0; i < N; i++) {
                const long double truth = is_log ? logl(at(x, i)) : expl(at(x, i));
                int exponent;
                frexpl(truth, &exponent);
                const int last_place = (int)(truth == 0 ? smallest : fmax(exponent - digits, smallest));
                const double ulp = (double)ldexpl(fabsl(at(out, i) - truth), -last_place);
                worst = fmax(worst, ulp);
                if (!(ulp <= 1))
                    fail(is_log ? "log" : "exp", i, at(out, i), (double)truth);
            }
            release();
        }
        printf("%s %s %s: at most %.3f ULP\n", set->name, f64 ? "float64" : "float32", is_log ? "log" : "exp", worst);
    }
    double *result = take(1, 8);
    *result = 0;
    check("FLOP", 0, fmod(tables[0]->multiply_adds(3, result), 6), 0, 0, 0);
    check("bits of zeros", 0, (double)tables[0]->read_all(memset(take(4096, 1), 0, 4096), 4096), 0, 0, 0);
    release();
}

static void test_set(void)
{
    static const int features[22] = {0,  1,  2,  3,  4,  5,  7,  8,  9,   15,  16,
                                     17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200};
    static const int rows[16] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65, 300};
    static const int classes[14] = {1, 2, 3, 5, 6, 7, 10, 11, 12, 13, 20, 21, 25, 40};
    int turn = 0;
    for (int r = 0; r < 16; r++) {
        for (int j = 0; j < 22; j++)
            for (int type = 0; type < N_STORED_TYPES; type++, turn++) {
                const int k = classes[turn % 14], n = rows[r], m = features[j];
                snprintf(what, sizeof what, "stored type %d, %d rows, %d features, %d classes", type, n, m, k);
                test_forward((stored_type)type, n, m, k);
                test_gradient((stored_type)type, n, m, k, turn % 64);
            }
        for (int k = 0; k < 14; k++) {
            snprintf(what, sizeof what, "%d rows, %d classes", rows[r], classes[k]);
            test_columns(rows[r], classes[k]);
            test_rows(rows[r], classes[k]);
        }
    }
    static const int more_classes[4] = {129, 300, 8203, 9001};
    for (int k = 0; k < 4; k++) {
        snprintf(what, sizeof what, "3 rows, %d classes", more_classes[k]);
        test_rows(3, more_classes[k]);
    }
    snprintf(what, sizeof what, "1 row, 70001 classes");
    test_rows(1, 70001);
    snprintf(what, sizeof what, "every value");
    test_every_half();
    test_elementary();
    test_sparse();
    test_solver();
}

int main(void)
{
    if (!make_regions())
        return 2;
    const instruction_set *found[MOST_INSTRUCTION_SETS];
    const int n_found = available_instruction_sets(found);
    for (int s = 0; s < n_found; s++)
        for (f64 = 0; f64 < 2; f64++) {
            set = found[s], size = f64 ? 8 : 4, tiny = f64 ? 0x1p-960 : 0x1p-100;
            tables[0] = f64 ? &set->f64 : &set->f32;
            tables[1] = f64 ? &kernels_scalar.f64 : &kernels_scalar.f32;
            test_set();
        }
    printf("%d values checked\n", n_checks);
    return 0;
}
