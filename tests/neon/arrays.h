/* Arrays that each end where a page begins that must not be touched, and checks of what they hold. */
#define _GNU_SOURCE
#include "simd/kernels.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { N_REGIONS = 32, REGION = 1 << 20, GUARD = 1 << 16, CANARY = 0xa5, LD = 32 };

static char *regions[N_REGIONS], *places[N_REGIONS];
static int n_taken, f64, size, n_checks; /* size: bytes of a number of the compute type */
static double tiny;
static const instruction_set *set;
static const kernel_table *tables[2]; /* of the set under test, and of scalar */
static char what[200];

/* ---- arrays of the compute type ---- */

static void *take(ptrdiff_t n, ptrdiff_t item)
{
    if (n_taken == N_REGIONS || n * item > REGION - 64)
        abort();
    char *place = regions[n_taken] + REGION - n * item;
    memset(place - 64, CANARY, 64);
    return places[n_taken++] = place;
}
static void *reals(ptrdiff_t n)
{
    return take(n, size);
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
    return memcpy(reals(n), p, (size_t)(n * size));
}

/* ---- checks ---- */

static void fail(const char *name, ptrdiff_t i, double got, double expected)
{
    fprintf(stderr, "%s %s %s: %s [%td] is %.17g, expected %.17g\n", set->name, f64 ? "float64" : "float32",
            what, name, i, got, expected);
    exit(1);
}
/* within `roundings` units of the larger of |expected| and `least`; 0 roundings: equal */
static void check(const char *name, ptrdiff_t i, double got, double expected, double roundings, double least)
{
    n_checks++;
    const double unit = f64 ? 0x1p-52 : 0x1p-23, allowed = roundings * unit * fmax(fabs(expected), least);
    if (!(got == expected || fabs(got - expected) <= allowed || (isnan(got) && isnan(expected))))
        fail(name, i, got, expected);
}
static void check_all(const char *name, const void *got, const void *expected, ptrdiff_t n, double roundings,
                      double least)
{
    for (ptrdiff_t i = 0; i < n; i++)
        check(name, i, at(got, i), at(expected, i), roundings, least);
}
static void out_of_bounds(int number)
{
    fprintf(stderr, "%s %s %s: signal %d, a byte outside of an array was touched\n", set->name,
            f64 ? "float64" : "float32", what, number);
    _Exit(1);
}
static void release(void)
{
    for (int r = 0; r < n_taken; r++)
        for (int i = 1; i <= 64; i++)
            if ((unsigned char)places[r][-i] != CANARY)
                fail("the byte before an array", r, (unsigned char)places[r][-i], CANARY);
    n_taken = 0;
}
static int make_regions(void)
{
    for (int r = 0; r < N_REGIONS; r++) {
        regions[r] = mmap(NULL, REGION + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (regions[r] == MAP_FAILED || mprotect(regions[r] + REGION, GUARD, PROT_NONE))
            return perror("mmap"), 0;
    }
    signal(SIGSEGV, out_of_bounds);
    return 1;
}
