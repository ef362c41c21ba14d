/* Long vectors of parameters, a piece at a time: lines of a number for each class, one line after the other. */

/* y += factor * x */
static void FN(add_multiple)(ptrdiff_t n, double factor, const void *x_, void *y_)
{
    const T *x = (const T *)x_;
    T *y = (T *)y_;
    const V a = FN(all)((T)factor);
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        FN(store)(y + i, VOP(fma)(a, FN(load)(x + i), FN(load)(y + i)));
    if (i < n)
        FN(store_first)(y + i, VOP(fma)(a, FN(load_first)(x + i, n - i, 0), FN(load_first)(y + i, n - i, 0)), n - i);
}

/* sum_i x[i] y[i] */
static double FN(product)(ptrdiff_t n, const void *x_, const void *y_)
{
    const T *x = (const T *)x_, *y = (const T *)y_;
    double totals[LANES] = {0}, total = 0;
    ptrdiff_t i = 0;
    while (i < n) {
        V sums[4] = {{0}, {0}, {0}, {0}};
        for (int turn = 0; turn < PRODUCT_TURNS && i + 4 * LANES <= n; turn++, i += 4 * LANES)
            for (int v = 0; v < 4; v++)
                sums[v] = VOP(fma)(FN(load)(x + i + v * LANES), FN(load)(y + i + v * LANES), sums[v]);
        if (n - i < 4 * LANES)
            for (int v = 0; v < 4 && i < n; v++, i += LANES)
                sums[v] = VOP(fma)(FN(load_first)(x + i, n - i < LANES ? n - i : LANES, 0),
                                   FN(load_first)(y + i, n - i < LANES ? n - i : LANES, 0), sums[v]);
        T lanes[LANES];
        FN(store)(lanes, (sums[0] + sums[1]) + (sums[2] + sums[3]));
        for (int lane = 0; lane < LANES; lane++)
            totals[lane] += (double)lanes[lane];
    }
    for (int lane = 0; lane < LANES; lane++)
        total += totals[lane];
    return total;
}

INLINE T FN(sum_of)(V v)
{
    T lanes[LANES], total = 0;
    FN(store)(lanes, v);
    for (int lane = 0; lane < LANES; lane++)
        total += lanes[lane];
    return total;
}

/* Lines shorter than a vector: all lines together where an element needs no other, then line by line. (Zen 4, L-BFGS's
 * products of five pairs of 4,000,000 numbers: 30 ms instead of 68 with 2 classes, 24 instead of 27 with 10.) */
INLINE void FN(solve_short_lines)(ptrdiff_t n_lines, ptrdiff_t n, const T *diagonal, V ridge, const T *v, T *out)
{
    for (ptrdiff_t i = 0; i < n_lines * n; i += LANES) {
        const ptrdiff_t m = n_lines * n - i < LANES ? n_lines * n - i : LANES;
        FN(store_first)(out + i, 1 / (FN(load_first)(diagonal + i, m, 0) + ridge), m);
    }
    for (ptrdiff_t j = 0; j < n_lines; j++, v += n, out += n) {
        T sum = 0, whole = 0;
        for (ptrdiff_t k = 0; k < n; k++) {
            sum += out[k] * v[k];
            whole += out[k];
        }
        const T mean = whole > 0 ? sum / whole : 0;
        for (ptrdiff_t k = 0; k < n; k++)
            out[k] *= v[k] - mean;
    }
}

/* out = a v - a (sum a v) / (sum a) in each line of n, with a = 1 / (diagonal + l2): the inverse of that diagonal among
 * lines that sum to 0. out may not be v. */
static void FN(solve_lines)(ptrdiff_t n_lines, ptrdiff_t n, const void *diagonal, double l2, const void *v_, void *out_)
{
    const V ridge = FN(all)((T)l2);
    if (n < LANES) {
        FN(solve_short_lines)(n_lines, n, (const T *)diagonal, ridge, (const T *)v_, (T *)out_);
        return;
    }
    for (ptrdiff_t j = 0; j < n_lines; j++) {
        const T *d = (const T *)diagonal + j * n, *v = (const T *)v_ + j * n;
        T *out = (T *)out_ + j * n;
        V sum = {0}, whole = {0};
        for (ptrdiff_t k = 0; k < n; k += LANES) {
            const ptrdiff_t m = n - k < LANES ? n - k : LANES;
            const V a = 1 / (FN(load_first)(d + k, m, (T)INFINITY) + ridge);
            sum = VOP(fma)(a, FN(load_first)(v + k, m, 0), sum);
            whole += a;
            FN(store_first)(out + k, a, m);
        }
        const T of_all = FN(sum_of)(whole);
        const V mean = FN(all)(of_all > 0 ? FN(sum_of)(sum) / of_all : 0);
        for (ptrdiff_t k = 0; k < n; k += LANES) {
            const ptrdiff_t m = n - k < LANES ? n - k : LANES;
            FN(store_first)(out + k, FN(load_first)(out + k, m, 0) * (FN(load_first)(v + k, m, 0) - mean), m);
        }
    }
}

/* g[j][k] = factor * (g[j][k] - mean[j] * bias[k]) + l2 * x[j][k]; mean NULL: 0 */
static void FN(finish_lines)(ptrdiff_t n_lines, ptrdiff_t n, double factor, const void *mean, const void *bias,
                             double l2, const void *x_, void *g_)
{
    const V f = FN(all)((T)factor), ridge = FN(all)((T)l2);
    for (ptrdiff_t j = 0; j < n_lines; j++) {
        const T *x = (const T *)x_ + j * n;
        T *g = (T *)g_ + j * n;
        const T minus_mean = mean ? -((const T *)mean)[j] : 0;
        if (n < LANES) {
            for (ptrdiff_t k = 0; k < n; k++)
                g[k] = (T)factor * (g[k] + minus_mean * ((const T *)bias)[k]) + (T)l2 * x[k];
            continue;
        }
        const V of_j = FN(all)(minus_mean);
        for (ptrdiff_t k = 0; k < n; k += LANES) {
            const ptrdiff_t m = n - k < LANES ? n - k : LANES;
            const V centred = VOP(fma)(of_j, FN(load_first)((const T *)bias + k, m, 0), FN(load_first)(g + k, m, 0));
            FN(store_first)(g + k, VOP(fma)(ridge, FN(load_first)(x + k, m, 0), f * centred), m);
        }
    }
}

/* the largest |g[j][k] + mean[j] * bias[k]|; mean NULL: 0 */
static double FN(largest_of_lines)(ptrdiff_t n_lines, ptrdiff_t n, const void *mean, const void *bias, const void *g_)
{
    V largest = {0};
    for (ptrdiff_t j = 0; j < n_lines; j++) {
        const T *g = (const T *)g_ + j * n;
        const V of_j = FN(all)(mean ? ((const T *)mean)[j] : 0);
        for (ptrdiff_t k = 0; k < n; k += LANES) {
            const ptrdiff_t m = n - k < LANES ? n - k : LANES;
            const V x = VOP(fma)(of_j, FN(load_first)((const T *)bias + k, m, 0), FN(load_first)(g + k, m, 0));
            largest = FN(larger)(FN(larger)(x, -x), largest);
        }
    }
    T lanes[LANES], found = 0;
    FN(store)(lanes, largest);
    for (int lane = 0; lane < LANES; lane++)
        found = lanes[lane] > found ? lanes[lane] : found;
    return (double)found;
}

/* sums[k] += sum_j factors[j] x[j][k] */
static void FN(sum_lines)(ptrdiff_t n_lines, ptrdiff_t n, const void *factors, const void *x, void *sums)
{
    for (ptrdiff_t j = 0; j < n_lines; j++) {
        const T factor = ((const T *)factors)[j], *line = (const T *)x + j * n;
        if (n < LANES)
            for (ptrdiff_t k = 0; k < n; k++)
                ((T *)sums)[k] += factor * line[k];
        else
            FN(add_multiple)(n, (double)factor, line, sums);
    }
}
