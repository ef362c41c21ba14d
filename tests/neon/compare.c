/* Every kernel of every instruction set that this machine has, outside of Python: built for another
 * architecture, it runs under an emulator.
 *
 * All are held to the scalar kernels: the matrix products equal, for they get small multiples of 1/8, whose
 * sums are exact in any order; the softmax family to a few roundings. exp and log are held to the C library.
 * Each array ends where a page begins that must not be touched. */
#define _GNU_SOURCE
#include "simd/kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { N_REGIONS = 16, REGION = 1 << 20, GUARD = 1 << 16, CANARY = 0xa5, LD = 32 };

static char *regions[N_REGIONS], *places[N_REGIONS];
static int n_taken, f64, n_checks;
static const instruction_set *set;
static const kernel_table *kernels, *scalar;
static char what[200];

/* ---- arrays of the compute type ---- */

static void *take(ptrdiff_t n, ptrdiff_t size)
{
    if (n_taken == N_REGIONS || n * size > REGION - 64)
        abort();
    char *place = regions[n_taken] + REGION - n * size;
    memset(place - 64, CANARY, 64);
    return places[n_taken++] = place;
}
static void *reals(ptrdiff_t n)
{
    return take(n, f64 ? 8 : 4);
}
static double at(const void *p, ptrdiff_t i)
{
    return f64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}
static void put(void *p, ptrdiff_t i, double value)
{
    if (f64)
        ((double *)p)[i] = value;
    else
        ((float *)p)[i] = (float)value;
}
static int uniform(int n)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int)((state >> 33) % (unsigned)n);
}
static void *eighths(ptrdiff_t n)
{
    void *p = reals(n);
    for (ptrdiff_t i = 0; i < n; i++)
        put(p, i, (uniform(33) - 16) / 8.0);
    return p;
}
static void *copy(const void *p, ptrdiff_t n)
{
    return memcpy(reals(n), p, (size_t)n * (f64 ? 8 : 4));
}

/* ---- checks ---- */

static void fail(const char *name, ptrdiff_t i, double got, double expected)
{
    fprintf(stderr, "%s %s %s: %s [%td] is %.17g, expected %.17g\n", set->name, f64 ? "float64" : "float32",
            what, name, i, got, expected);
    exit(1);
}
/* within `roundings` units of the larger of |expected| and `size`; 0 roundings: equal */
static void check(const char *name, ptrdiff_t i, double got, double expected, double roundings, double size)
{
    n_checks++;
    const double unit = f64 ? 0x1p-52 : 0x1p-23, allowed = roundings * unit * fmax(fabs(expected), size);
    if (!(got == expected || fabs(got - expected) <= allowed || (isnan(got) && isnan(expected))))
        fail(name, i, got, expected);
}
static void check_all(const char *name, const void *got, const void *expected, ptrdiff_t n, double roundings,
                      double size)
{
    for (ptrdiff_t i = 0; i < n; i++)
        check(name, i, at(got, i), at(expected, i), roundings, size);
}
static void release(void)
{
    for (int r = 0; r < n_taken; r++)
        for (int i = 1; i <= 64; i++)
            if ((unsigned char)places[r][-i] != CANARY)
                fail("the byte before an array", r, (unsigned char)places[r][-i], CANARY);
    n_taken = 0;
}

/* ---- matrix products ---- */

/* small integers, exact in each way of storing X */
static void store(int source, void *p, ptrdiff_t j, int value)
{
    int exponent = 0;
    if (source == FROM_U8)
        ((uint8_t *)p)[j] = (uint8_t)value;
    else if (source == FROM_F32)
        ((float *)p)[j] = (float)value;
    else if (source == FROM_F64)
        ((double *)p)[j] = value;
    else {
        const int fraction = (int)(frexp(value, &exponent) * 2048);
        ((uint16_t *)p)[j] = (uint16_t)(value ? ((exponent + 14) << 10) + fraction - 1024 : 0);
    }
}
static const void **random_rows(int source, ptrdiff_t n_rows, ptrdiff_t n_features)
{
    static const int sizes[N_SOURCES] = {1, 2, 4, 8};
    const ptrdiff_t row_bytes = n_features * sizes[source];
    char *stored = take(n_rows, row_bytes);
    const void **rows = take(n_rows, sizeof *rows);
    for (ptrdiff_t i = 0; i < n_rows; i++) { /* in another order than they are stored */
        rows[i] = stored + (n_rows - 1 - i) * row_bytes;
        for (ptrdiff_t j = 0; j < n_features; j++)
            store(source, stored + i * row_bytes, j, uniform(16));
    }
    return rows;
}

static void test_forward(int source, ptrdiff_t n, ptrdiff_t features, ptrdiff_t classes)
{
    const ptrdiff_t ld = (n + LD - 1) / LD * LD;
    const void **rows = random_rows(source, n, features), **later = uniform(2) ? rows : NULL;
    const void *W = eighths(classes * features), *b = eighths(classes);
    void *mine = reals(classes * ld), *theirs = reals(classes * ld), *panel = reals(FORWARD_PANEL * ld);
    kernels->forward[source](rows, later, n, features, W, b, classes, 0.5, mine, ld, panel);
    scalar->forward[source](rows, later, n, features, W, b, classes, 0.5, theirs, ld, panel);
    for (ptrdiff_t k = 0; k < classes; k++)
        for (ptrdiff_t i = 0; i < n; i++)
            check("logits", k * ld + i, at(mine, k * ld + i), at(theirs, k * ld + i), 0, 0);
    release();
}

static void test_gradient(int source, ptrdiff_t n, ptrdiff_t features, ptrdiff_t classes, int variant)
{
    const ptrdiff_t ld = (n + LD - 1) / LD * LD, size = classes * features;
    const void **rows = random_rows(source, n, features);
    void *dlogits = eighths(classes * ld), *panel = reals(GRADIENT_PANEL * n);
    void *g = eighths(size), *W = eighths(size), *v = eighths(size);
    gradient_sink mine = {.first = variant & 1, .last = variant >> 1 & 1, .nesterov = variant >> 4 & 1,
                          .learning_rate = 0.5, .momentum = 0.5, .weight_decay = variant & 32 ? 0.25 : 0};
    gradient_sink theirs = mine;
    mine.gradient = g, theirs.gradient = copy(g, size);
    if (variant & 4)
        mine.W = W, theirs.W = copy(W, size);
    if (variant & 4 && variant & 8)
        mine.velocity = v, theirs.velocity = copy(v, size);
    for (ptrdiff_t begin = 0; begin < features; begin += 64) {
        const ptrdiff_t end = begin + 64 < features ? begin + 64 : features;
        kernels->gradient[source](rows, n, features, begin, end, dlogits, ld, classes, 0.5, &mine, panel);
        scalar->gradient[source](rows, n, features, begin, end, dlogits, ld, classes, 0.5, &theirs, panel);
    }
    check_all("gradient", g, theirs.gradient, size, 0, 0);
    if (mine.W)
        check_all("W", W, theirs.W, size, 0, 0);
    if (mine.velocity)
        check_all("velocity", v, theirs.velocity, size, 0, 0);
    if (features > 0) { /* the bias goes into a sink like one feature of W */
        kernels->bias_gradient(n, dlogits, ld, classes, &mine);
        scalar->bias_gradient(n, dlogits, ld, classes, &theirs);
        check_all("gradient of b", g, theirs.gradient, size, 0, 0);
        if (mine.W)
            check_all("b", W, theirs.W, size, 0, 0);
    }
    release();
}

static void test_every_half(void)
{
    for (int first = 0; first < 1 << 16; first += LD) {
        uint16_t *halves = take(LD, 2);
        const void **rows = take(LD, sizeof *rows);
        void *W = reals(1), *b = reals(1), *mine = reals(LD), *theirs = reals(LD), *panel = reals(FORWARD_PANEL * LD);
        put(W, 0, 1), put(b, 0, 0);
        for (int i = 0; i < LD; i++)
            halves[i] = (uint16_t)(first + i), rows[i] = halves + i;
        kernels->forward[FROM_F16](rows, NULL, LD, 1, W, b, 1, 1.0, mine, LD, panel);
        scalar->forward[FROM_F16](rows, NULL, LD, 1, W, b, 1, 1.0, theirs, LD, panel);
        check_all("float16", mine, theirs, LD, 0, 0);
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
    const ptrdiff_t ld = (n + LD - 1) / LD * LD, size = classes * ld;
    void *logits = random_logits(size), *mine = copy(logits, size), *theirs = copy(logits, size);
    void *losses = reals(n), *expected = reals(n), *factors = uniform(4) ? eighths(n) : NULL;
    int64_t *y = take(n, 8), *predictions = take(n, 8), *p = take(n, 8), *again = take(n, 8);
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = uniform((int)classes);
    void *flipped = reals(size);
    kernels->transpose(classes, ld, logits, ld, flipped, classes);
    for (ptrdiff_t i = 0; i < size; i++)
        check("transposed", i, at(flipped, i % ld * classes + i / ld), at(logits, i), 0, 0);
    kernels->argmax_columns(n, classes, logits, ld, again);
    kernels->cross_entropy_columns(n, classes, mine, ld, y, factors, losses, predictions);
    scalar->cross_entropy_columns(n, classes, theirs, ld, y, factors, expected, p);
    for (ptrdiff_t i = 0; i < n; i++) {
        check("argmax", i, (double)again[i], (double)p[i], 0, 0);
        check("predictions", i, (double)predictions[i], (double)p[i], 0, 0);
    }
    check_all("losses", losses, expected, n, 8, 1);
    for (ptrdiff_t k = 0; factors && k < classes; k++)
        for (ptrdiff_t i = 0; i < n; i++)
            check("dlogits", k * ld + i, at(mine, k * ld + i), at(theirs, k * ld + i), 32, 0.5);
    release();
}

static void test_rows(ptrdiff_t n, ptrdiff_t classes)
{
    const ptrdiff_t size = n * classes;
    void *x = random_logits(size), *mine = reals(size), *theirs = reals(size);
    kernels->softmax_rows(n, classes, x, classes, mine, classes);
    scalar->softmax_rows(n, classes, x, classes, theirs, classes);
    check_all("softmax", mine, theirs, size, 32, f64 ? 1e-290 : 1e-30);
    kernels->log_softmax_rows(n, classes, x, classes, mine, classes);
    scalar->log_softmax_rows(n, classes, x, classes, theirs, classes);
    check_all("log_softmax", mine, theirs, size, 8, 1);
    void *dense = eighths(size), *weight = eighths(classes), *losses = reals(n), *expected = reals(n);
    for (ptrdiff_t i = 0; i < size; i++)
        put(dense, i, fmax(at(dense, i), 0));
    for (ptrdiff_t k = 0; k < classes; k++)
        put(weight, k, fabs(at(weight, k)));
    int64_t *y = take(n, 8);
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = uniform(8) ? uniform((int)classes) : -100;
    for (int variant = 0; variant < 16; variant++) {
        const void *target = variant & 1 ? dense : NULL, *w = variant & 2 ? weight : NULL;
        const int64_t *labels = variant & 4 ? y : NULL;
        void *dmine = variant & 8 ? mine : NULL, *dtheirs = variant & 8 ? theirs : NULL;
        kernels->cross_entropy_rows(n, classes, x, classes, target, classes, labels, -100, w, 0.5, losses, dmine,
                                    classes);
        scalar->cross_entropy_rows(n, classes, x, classes, target, classes, labels, -100, w, 0.5, expected,
                                   dtheirs, classes);
        check_all("losses", losses, expected, n, 32, 64.0 * (double)classes);
        if (dmine)
            check_all("dlogits", mine, theirs, size, 32, 2.0 * (double)classes);
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
            (is_log ? kernels->log_from_one : kernels->exp_nonpositive)(N, x, out);
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
    check("FLOP", 0, fmod(kernels->multiply_adds(3, result), 6), 0, 0, 0);
    check("bits of zeros", 0, (double)kernels->read_all(memset(take(4096, 1), 0, 4096), 4096), 0, 0, 0);
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
            for (int source = 0; source < N_SOURCES; source++, turn++) {
                const int k = classes[turn % 14], n = rows[r], m = features[j];
                snprintf(what, sizeof what, "source %d, %d rows, %d features, %d classes", source, n, m, k);
                test_forward(source, n, m, k);
                test_gradient(source, n, m, k, turn % 64);
            }
        for (int k = 0; k < 14; k++) {
            snprintf(what, sizeof what, "%d rows, %d classes", rows[r], classes[k]);
            test_columns(rows[r], classes[k]);
            test_rows(rows[r], classes[k]);
        }
    }
    snprintf(what, sizeof what, "every value");
    test_every_half();
    test_elementary();
}

int main(void)
{
    for (int r = 0; r < N_REGIONS; r++) {
        regions[r] = mmap(NULL, REGION + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (regions[r] == MAP_FAILED || mprotect(regions[r] + REGION, GUARD, PROT_NONE))
            return perror("mmap"), 2;
    }
    const instruction_set *found[4];
    const int n_found = available_instruction_sets(found);
    for (int s = 0; s < n_found; s++)
        for (f64 = 0; f64 < 2; f64++) {
            set = found[s];
            kernels = f64 ? &set->f64 : &set->f32;
            scalar = f64 ? &kernels_scalar.f64 : &kernels_scalar.f32;
            test_set();
        }
    printf("%d values checked\n", n_checks);
    return 0;
}
