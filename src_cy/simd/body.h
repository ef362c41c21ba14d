/* Softmax and cross-entropy in registers: one text for every instruction set and both compute types.
 * Included with T (float, double) and TYPE (f32, f64); V is its vector, I the integers of equal width. */
#undef FN
#undef VOP
#undef V
#undef I
#undef LANES
#undef INTEGER
#undef SMALLEST_NORMAL
#undef WIDE
#define FN(name) PASTE(name, TYPE)
#define VOP(operation) PASTE(TYPE, operation)
#define V VOP(vector)
#define I VOP(integers)
#define LANES VOP(lanes)
#define WIDE (TILE_VECTORS * LANES)
#if F32
#define INTEGER int32_t
#define SMALLEST_NORMAL FLT_MIN
#else
#define INTEGER int64_t
#define SMALLEST_NORMAL DBL_MIN
#endif

/* ---- the vector type's small change ------------------------------------------------------------ */

INLINE V FN(all)(T x)
{
    return x - (V){0}; /* exact, and folded into a broadcast, as 0 + x is not: it turns -0 into 0 */
}
INLINE V FN(load)(const T *p)
{
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void FN(store)(T *p, V v)
{
    memcpy(p, &v, sizeof v);
}
/* the first n < LANES elements, the other lanes filled */
INLINE V FN(load_first)(const T *p, ptrdiff_t n, T fill)
{
    return VOP(load_first)(p, n, FN(all)(fill));
}
INLINE void FN(store_first)(T *p, V v, ptrdiff_t n)
{
    VOP(store_first)(p, v, n);
}
INLINE V FN(select)(I mask, V yes, V no)
{
    return (V)(((I)yes & mask) | ((I)no & ~mask));
}
INLINE V FN(larger)(V a, V b)
{
    return FN(select)(a > b, a, b);
}/* horizontal: halves are folded onto each other, in one order everywhere */
INLINE T FN(sum_lanes)(V v)
{
    T lanes[LANES];
    FN(store)(lanes, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            lanes[lane] += lanes[lane + half];
    return lanes[0];
}
INLINE T FN(largest_lane)(V v)
{
    T lanes[LANES];
    FN(store)(lanes, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            lanes[lane] = lanes[lane] > lanes[lane + half] ? lanes[lane] : lanes[lane + half];
    return lanes[0];
}

/* ---- exp and log ------------------------------------------------------------------------------- */

/* exp(x) for x <= 0, NaN for NaN: x = n ln 2 + r, |r| <= ln 2 / 2, a minimax polynomial in r
 * (error below 0.04 ULP), times 2^n in two exact steps so that subnormal results round once.
 * float: within 1 ULP on [-104, 0]. double: within 1 ULP on [-745.2, 0]. */
INLINE V FN(exp)(V x)
{
#if F32
    const T magic = 0x1.8p23f, log2e = 0x1.715476p0f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    const T underflow = -104.0f;
    const int bias = 127, fraction_bits = 23;
    const T q[] = {0.499999899886f, 0.166665189753f, 0.0416690901316f, 0.00836888282302f, 0.00137803835533f};
#else
    const T magic = 0x1.8p52, log2e = 0x1.71547652b82fep0, ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
    const T underflow = -745.2;
    const int bias = 1023, fraction_bits = 52;
    const T q[] = {0.50000000000000082463, 0.1666666666666630184, 0.04166666666654551299, 0.0083333333335573453254,
                   0.0013888888940325327753, 0.00019841269383370380935, 2.4801496014436348968e-5,
                   2.755768739692508723e-6, 2.7629339867866947852e-7, 2.4970382041447522841e-8};
#endif
    const int degree = (int)(sizeof q / sizeof *q) - 1;
    /* adding 1.5 * 2^fraction_bits rounds to an integer, which then sits in the low bits */
    const V shifted = VOP(fma)(x, FN(all)(log2e), FN(all)(magic));
    const V n = shifted - magic;
    const I n_integer = (I)shifted - (I)FN(all)(magic);
    /* r = high + low, high exact: what r loses when the two are added comes back in the last sum */
    const V high = VOP(fma)(n, FN(all)(-ln2_high), x), low = n * -ln2_low, r = high + low;
    V p = FN(all)(q[degree]);
    for (int k = degree - 1; k >= 0; k--)
        p = VOP(fma)(p, r, FN(all)(q[k]));
    p = (VOP(fma)(p, r * r, low) + high) + (T)1;
    const I half = n_integer >> 1;
    p = p * (V)((half + bias) << fraction_bits) * (V)((n_integer - half + bias) << fraction_bits);
    return (V)((I)p & ~(x < underflow)); /* also -inf, whose r is NaN */
}

/* log(x) for finite x >= 1, NaN for NaN: x = 2^e m with m around 1, f = m - 1, s = f / (2 + f),
 * log m = f - s (f - s^2 P(s^2)); within 1 ULP. */
INLINE V FN(log)(V x)
{
#if F32
    const T ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    const int fraction_bits = 23;
    const INTEGER root_half = 0x3f3504f3;
    const T q[] = {0.66666685839070f, 0.39988487386195f, 0.29592458350392f};
#else
    const T ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
    const int fraction_bits = 52;
    const INTEGER root_half = 0x3fe6a09e667f3bcd;
    const T q[] = {0.66666666666666699512, 0.39999999999892150595, 0.2857142862923163585, 0.22222210613840132989,
                   0.18182926433035197596, 0.15330500083386674754, 0.14631345980866508626};
#endif
    const int degree = (int)(sizeof q / sizeof *q) - 1;
    /* m in [sqrt(1/2), sqrt(2)): subtracting the bits of sqrt(1/2) puts the break there */
    const I e = ((I)x - root_half) >> fraction_bits;
    const V m = (V)((I)x - (e << fraction_bits));
    /* an integer in the low bits of 1.5 * 2^fraction_bits is that number plus the integer */
    const T magic = F32 ? (T)0x1.8p23 : (T)0x1.8p52;
    const V exponent = (V)(e + (I)FN(all)(magic)) - magic;
    const V f = m - (T)1, s = f / (f + (T)2), z = s * s;
    V p = FN(all)(q[degree]);
    for (int k = degree - 1; k >= 0; k--)
        p = VOP(fma)(p, z, FN(all)(q[k]));
    const V low = VOP(fma)(exponent, FN(all)(ln2_low), -(s * (f - z * p)));
    const V result = exponent * ln2_high + (f + low);
    return FN(select)(x == x, result, x);
}

static void FN(exp_nonpositive)(ptrdiff_t n, const void *x, void *out)
{
    const T *from = x;
    T *to = out;
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        FN(store)(to + i, FN(exp)(FN(load)(from + i)));
    if (i < n)
        FN(store_first)(to + i, FN(exp)(FN(load_first)(from + i, n - i, 0)), n - i);
}

static void FN(log_from_one)(ptrdiff_t n, const void *x, void *out)
{
    const T *from = x;
    T *to = out;
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        FN(store)(to + i, FN(log)(FN(load)(from + i)));
    if (i < n)
        FN(store_first)(to + i, FN(log)(FN(load_first)(from + i, n - i, 1)), n - i);
}

/* ---- class-major blocks: the lanes are rows ---------------------------------------------------- */

/* The largest logit of each lane and the first class that has it, or the first NaN (numpy.argmax). */
INLINE V FN(column_max)(ptrdiff_t n_rows, ptrdiff_t n_classes, const T *logits, ptrdiff_t ld, INTEGER argmax[])
{
    V largest = FN(load)(logits);
    I first = {0}, unordered = largest != largest;
    for (ptrdiff_t k = 1; k < n_classes; k++) {
        const V x = FN(load)(logits + k * ld);
        const I above = x > largest;
        largest = FN(select)(above, x, largest);
        first = (first & ~above) | (above & (INTEGER)k);
        unordered |= x != x;
    }
    memcpy(argmax, &first, sizeof first);
    for (ptrdiff_t lane = 0; lane < n_rows; lane++)
        if (unordered[lane]) {
            ptrdiff_t k = 0;
            while (logits[k * ld + lane] == logits[k * ld + lane])
                k++;
            argmax[lane] = (INTEGER)k;
        }
    return largest;
}

static void FN(argmax_columns)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *logits, ptrdiff_t ld,
                               int64_t *predictions)
{
    for (ptrdiff_t i = 0; i < n_rows; i += LANES) {
        const ptrdiff_t n = n_rows - i < LANES ? n_rows - i : LANES;
        INTEGER argmax[LANES];
        FN(column_max)(n, n_classes, (const T *)logits + i, ld, argmax);
        for (ptrdiff_t lane = 0; lane < n; lane++)
            predictions[i + lane] = argmax[lane];
    }
}

/* sum_k exp(x[k] - shift) in each lane; the exponentials replace x if `keep` */
INLINE V FN(column_sum_exp)(ptrdiff_t n_classes, T *x, ptrdiff_t ld, V shift, const int keep)
{
    V total = {0};
    for (ptrdiff_t begin = 0; begin < n_classes; begin += SUM_CHUNK) {
        const ptrdiff_t end = n_classes - begin < SUM_CHUNK ? n_classes : begin + SUM_CHUNK;
        V part = {0};
        for (ptrdiff_t k = begin; k < end; k++) {
            const V e = FN(exp)(FN(load)(x + k * ld) - shift);
            if (keep)
                FN(store)(x + k * ld, e);
            part += e;
        }
        total += part;
    }
    return total;
}

static void FN(softmax_columns)(ptrdiff_t n_rows, ptrdiff_t n_classes, void *logits, ptrdiff_t ld, int logarithm)
{
    for (ptrdiff_t i = 0; i < n_rows; i += LANES) {
        T *x = (T *)logits + i;
        V largest = FN(load)(x);
        for (ptrdiff_t k = 1; k < n_classes; k++)
            largest = FN(larger)(FN(load)(x + k * ld), largest);
        if (logarithm) {
            const V log_sum = FN(log)(FN(column_sum_exp)(n_classes, x, ld, largest, 0));
            for (ptrdiff_t k = 0; k < n_classes; k++) /* largest first: exact near the maximum */
                FN(store)(x + k * ld, FN(load)(x + k * ld) - largest - log_sum);
        } else {
            const V share = 1 / FN(column_sum_exp)(n_classes, x, ld, largest, 1);
            for (ptrdiff_t k = 0; k < n_classes; k++)
                FN(store)(x + k * ld, FN(load)(x + k * ld) * share);
        }
    }
}

/* Cost per element: one exp, 3 loads and 2 stores of cache-resident data. Probabilities are never
 * stored: the exponentials turn into dlogits in place. */
static void FN(cross_entropy_columns)(ptrdiff_t n_rows, ptrdiff_t n_classes, void *logits_, ptrdiff_t ld,
                                      const int64_t *y, const void *factors, void *losses,
                                      int64_t *predictions)
{
    for (ptrdiff_t i = 0; i < n_rows; i += LANES) {
        T *logits = (T *)logits_ + i, own[LANES] = {0};
        const ptrdiff_t n = n_rows - i < LANES ? n_rows - i : LANES;
        INTEGER argmax[LANES];
        const V largest = FN(column_max)(n, n_classes, logits, ld, argmax);
        for (ptrdiff_t lane = 0; lane < n; lane++) {
            own[lane] = logits[y[i + lane] * ld + lane];
            predictions[i + lane] = argmax[lane];
        }
        const V total = FN(column_sum_exp)(n_classes, logits, ld, largest, 1);
        FN(store_first)((T *)losses + i, FN(log)(total) - (FN(load)(own) - largest), n);
        if (!factors)
            continue;
        const V factor = FN(load_first)((const T *)factors + i, n, 0), share = factor / total;
        const I counts = factor != 0; /* weight 0 is left out, even where its loss is NaN */
        for (ptrdiff_t k = 0; k < n_classes; k++) {
            /* below the normal numbers it is 0: a subnormal operand costs a product some 100 cycles */
            const V d = FN(load)(logits + k * ld) * share;
            FN(store)(logits + k * ld, (V)((I)d & counts & ~(d < SMALLEST_NORMAL)));
        }
        for (ptrdiff_t lane = 0; lane < n; lane++)
            logits[y[i + lane] * ld + lane] -= factor[lane];
    }
}

/* ---- row-major rows: the lanes are classes ----------------------------------------------------- */

/* max_k x[k]; NaN may be passed over: the sum of exponentials brings it back */
INLINE T FN(row_max)(ptrdiff_t n_classes, const T *x)
{
    V largest = FN(all)((T)-INFINITY);
    ptrdiff_t k = 0;
    for (; k + LANES <= n_classes; k += LANES)
        largest = FN(larger)(FN(load)(x + k), largest);
    if (k < n_classes)
        largest = FN(larger)(FN(load_first)(x + k, n_classes - k, (T)-INFINITY), largest);
    return FN(largest_lane)(largest);
}

/* sum_k exp(x[k] - shift); the exponentials go to out unless it is NULL */
INLINE T FN(row_sum_exp)(ptrdiff_t n_classes, const T *x, T shift, T *out)
{
    V total = {0};
    ptrdiff_t k = 0;
    while (k + LANES <= n_classes) {
        V part = {0};
        for (int step = 0; step < SUM_CHUNK && k + LANES <= n_classes; step++, k += LANES) {
            const V e = FN(exp)(FN(load)(x + k) - shift);
            if (out)
                FN(store)(out + k, e);
            part += e;
        }
        total += part;
    }
    if (k < n_classes) {
        const V e = FN(exp)(FN(load_first)(x + k, n_classes - k, (T)-INFINITY) - shift);
        if (out)
            FN(store_first)(out + k, e, n_classes - k);
        V kept = {0};
        memcpy(&kept, &e, (size_t)(n_classes - k) * sizeof(T)); /* a filled lane is NaN if shift is -inf */
        total += kept;
    }
    return FN(sum_lanes)(total);
}

/* out[k] = a * x[k] + b, the tail like the rest; out may be x */
INLINE void FN(row_affine)(ptrdiff_t n_classes, const T *x, T a, T b, T *out)
{
    ptrdiff_t k = 0;
    for (; k + LANES <= n_classes; k += LANES)
        FN(store)(out + k, FN(load)(x + k) * a + b);
    if (k < n_classes)
        FN(store_first)(out + k, FN(load_first)(x + k, n_classes - k, 0) * a + b, n_classes - k);
}

static T FN(log_of)(T x)
{
    return FN(log)(FN(all)(x))[0];
}

static void FN(softmax_rows)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *x, ptrdiff_t x_stride,
                             void *out, ptrdiff_t out_stride)
{
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        const T *logits = (const T *)x + i * x_stride;
        T *probs = (T *)out + i * out_stride;
        const T sum = FN(row_sum_exp)(n_classes, logits, FN(row_max)(n_classes, logits), probs);
        FN(row_affine)(n_classes, probs, 1 / sum, 0, probs);
    }
}

static void FN(log_softmax_rows)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *x, ptrdiff_t x_stride,
                                 void *out, ptrdiff_t out_stride)
{
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        const T *logits = (const T *)x + i * x_stride;
        T *to = (T *)out + i * out_stride;
        const T largest = FN(row_max)(n_classes, logits);
        const T log_sum = FN(log_of)(FN(row_sum_exp)(n_classes, logits, largest, NULL));
        FN(row_affine)(n_classes, logits, 1, -largest, to); /* largest first: exact near the maximum */
        FN(row_affine)(n_classes, to, 1, -log_sum, to);
    }
}

/* sum_k dense[k] (x[k] - shift) and sum_k dense[k]; a target of 0 adds 0 even where x is -inf */
INLINE T FN(dense_loss)(ptrdiff_t n_classes, const T *dense, const T *x, T shift, T *mass)
{
    V products = {0}, masses = {0};
    for (ptrdiff_t k = 0; k < n_classes; k += LANES) {
        const ptrdiff_t n = n_classes - k < LANES ? n_classes - k : LANES;
        const V target = FN(load_first)(dense + k, n, 0);
        const V term = target * (FN(load_first)(x + k, n, 0) - shift);
        products += FN(select)(target == 0, (V){0}, term);
        masses += target;
    }
    *mass = FN(sum_lanes)(masses);
    return FN(sum_lanes)(products);
}

static void FN(cross_entropy_rows)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *logits,
                                   ptrdiff_t logits_stride, const void *dense, ptrdiff_t dense_stride,
                                   const int64_t *y, int64_t ignored, const void *label_weight,
                                   double factor, void *losses, void *dlogits, ptrdiff_t dlogits_stride)
{
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        const T *x = (const T *)logits + i * logits_stride;
        const T *target = dense ? (const T *)dense + i * dense_stride : NULL;
        T *dx = dlogits ? (T *)dlogits + i * dlogits_stride : NULL, *loss = (T *)losses + i;
        const int has_label = y && y[i] != ignored;
        const T spike = !has_label ? 0 : label_weight ? ((const T *)label_weight)[y[i]] : 1;
        const T largest = FN(row_max)(n_classes, x);
        T mass = 0, found = 0;
        if (target && (has_label || !y))
            found = FN(dense_loss)(n_classes, target, x, largest, &mass);
        mass += spike;
        if (mass == 0) { /* ignored, or all its classes weigh nothing: left out even if x has a NaN */
            *loss = 0;
            if (dx)
                memset(dx, 0, (size_t)n_classes * sizeof(T));
            continue;
        }
        if (spike != 0)
            found += spike * (x[y[i]] - largest);
        const T sum = FN(row_sum_exp)(n_classes, x, largest, dx);
        *loss = mass * FN(log_of)(sum) - found;
        if (!dx)
            continue;
        FN(row_affine)(n_classes, dx, (T)factor * mass / sum, 0, dx);
        for (ptrdiff_t k = 0; target && k < n_classes; k++)
            dx[k] -= (T)factor * target[k];
        if (has_label)
            dx[y[i]] -= (T)factor * spike;
    }
}

/* ---- gradients --------------------------------------------------------------------------------- */

/* Up to LANES elements of the gradient, at offset `at` of the parameters, go where the sink says. */
INLINE void FN(into_sink)(const gradient_sink *sink, ptrdiff_t at, ptrdiff_t n, V g)
{
    if (!sink->first)
        g += FN(load_first)((T *)sink->gradient + at, n, 0);
    if (!sink->last || !sink->W) {
        FN(store_first)((T *)sink->gradient + at, g, n);
        return;
    }
    T *W = (T *)sink->W + at;
    const V w = FN(load_first)(W, n, 0);
    V step = g + w * (T)sink->weight_decay;
    if (sink->velocity) {
        T *velocity = (T *)sink->velocity + at;
        const V v = FN(load_first)(velocity, n, 0) * (T)sink->momentum + step;
        FN(store_first)(velocity, v, n);
        step = sink->nesterov ? step + v * (T)sink->momentum : v;
    }
    FN(store_first)(W, w - step * (T)sink->learning_rate, n);
}

static void FN(bias_gradient)(ptrdiff_t n_rows, const void *dlogits, ptrdiff_t ld, ptrdiff_t n_classes,
                              const gradient_sink *sink)
{
    for (ptrdiff_t k = 0; k < n_classes; k++) {
        const T *column = (const T *)dlogits + k * ld;
        V total = {0};
        ptrdiff_t i = 0;
        for (; i + LANES <= n_rows; i += LANES)
            total += FN(load)(column + i);
        if (i < n_rows)
            total += FN(load_first)(column + i, n_rows - i, 0);
        FN(into_sink)(sink, k, 1, FN(all)(FN(sum_lanes)(total)));
    }
}

/* ---- matrix products --------------------------------------------------------------------------- */

/* Classes k .. group_end(k) make a tile: groups of nearly equal size, 12 classes are 6 + 6, not 10 + 2. */
INLINE ptrdiff_t FN(group_end)(ptrdiff_t k, ptrdiff_t n_classes)
{
    const ptrdiff_t n_groups = (n_classes - k + TILE_CLASSES - 1) / TILE_CLASSES;
    return k + (n_classes - k + n_groups - 1) / n_groups;
}

/* sums[c][v] += a[c * lda + t] * panel[t][v] over t: one loop serves both products,
 *   forward:  t runs over features, a is W,       the panel's lanes are rows of X,
 *   gradient: t runs over rows,     a is dlogits, the panel's lanes are features.
 * Per t: n_vectors loads, n_classes broadcasts, their product of multiply-adds. */
INLINE void FN(accumulate)(const int n_classes, const int n_vectors, const T *a, ptrdiff_t lda, const T *panel,
                           ptrdiff_t n, V sums[TILE_CLASSES][TILE_VECTORS])
{
    for (ptrdiff_t t = 0; t < n; t++) {
        V x[TILE_VECTORS];
        for (int v = 0; v < n_vectors; v++)
            x[v] = FN(load)(panel + t * WIDE + v * LANES);
        for (int c = 0; c < n_classes; c++) {
            const V d = FN(all)(a[c * lda + t]);
            for (int v = 0; v < n_vectors; v++)
                sums[c][v] = VOP(fma)(d, x[v], sums[c][v]);
        }
    }
}

INLINE void FN(forward_tile_of)(const int n_classes, const int n_vectors, const T *W, ptrdiff_t ldw,
                                const T *panel, ptrdiff_t n, int first, int last, T scale, const T *b, T *logits, ptrdiff_t ld)
{
    V sums[TILE_CLASSES][TILE_VECTORS] = {{{0}}};
    FN(accumulate)(n_classes, n_vectors, W, ldw, panel, n, sums);
    for (int c = 0; c < n_classes; c++)
        for (int v = 0; v < n_vectors; v++) {
            T *to = logits + c * ld + v * LANES;
            const V sum = first ? sums[c][v] : FN(load)(to) + sums[c][v];
            FN(store)(to, last ? sum * scale + b[c] : sum);
        }
}

static void FN(forward_tile)(int n_classes, ptrdiff_t n_rows, const T *W, ptrdiff_t ldw, const T *panel,
                             ptrdiff_t n, int first, int last, T scale, const T *b, T *logits, ptrdiff_t ld)
{
#define TILE_OF(size) FN(forward_tile_of)(size, TILE_VECTORS, W, ldw, panel, n, first, last, scale, b, logits, ld)
#define NARROW_TILE_OF(size) FN(forward_tile_of)(size, 1, W, ldw, panel, n, first, last, scale, b, logits, ld)
    if (n_rows > LANES)
        FOR_SIZE(n_classes, TILE_OF)
    else /* one image is half the work */
        FOR_SIZE(n_classes, NARROW_TILE_OF)
#undef TILE_OF
#undef NARROW_TILE_OF
}

INLINE void FN(gradient_tile_of)(const int n_classes, const T *dlogits, ptrdiff_t ld, const T *panel,
                                 ptrdiff_t n_rows, V totals[TILE_CLASSES][TILE_VECTORS])
{
    for (ptrdiff_t i = 0; i < n_rows; i += CHUNK) {
        const ptrdiff_t n = n_rows - i < CHUNK ? n_rows - i : CHUNK;
        V sums[TILE_CLASSES][TILE_VECTORS] = {{{0}}};
        FN(accumulate)(n_classes, TILE_VECTORS, dlogits + i, ld, panel + i * WIDE, n, sums);
        for (int c = 0; c < n_classes; c++)
            for (int v = 0; v < TILE_VECTORS; v++)
                totals[c][v] += sums[c][v];
    }
}

static void FN(gradient_tile)(int n_classes, const T *dlogits, ptrdiff_t ld, const T *panel, ptrdiff_t n_rows,
                              V totals[TILE_CLASSES][TILE_VECTORS])
{
#define TILE_OF(size) FN(gradient_tile_of)(size, dlogits, ld, panel, n_rows, totals)
    FOR_SIZE(n_classes, TILE_OF)
#undef TILE_OF
}

/* out[c * ld_out + r] = in[r * ld_in + c] */
static void FN(transpose)(ptrdiff_t n_rows, ptrdiff_t n_columns, const void *in_, ptrdiff_t ld_in, void *out_,
                          ptrdiff_t ld_out)
{
    for (ptrdiff_t r = 0; r < n_rows; r += LANES)
        for (ptrdiff_t c = 0; c < n_columns; c += LANES) {
            const ptrdiff_t rows = n_rows - r < LANES ? n_rows - r : LANES;
            const ptrdiff_t columns = n_columns - c < LANES ? n_columns - c : LANES;
            const T *in = (const T *)in_ + r * ld_in + c;
            T *out = (T *)out_ + c * ld_out + r;
            V v[LANES];
            for (int lane = 0; lane < LANES; lane++)
                v[lane] = lane < rows ? FN(load_first)(in + lane * ld_in, columns, 0) : (V){0};
            VOP(transpose)(v);
            for (ptrdiff_t t = 0; t < columns; t++)
                FN(store_first)(out + t * ld_out, v[t], rows);
        }
}

/* ---- the limits of the machine ----------------------------------------------------------------- */

static double FN(multiply_adds)(ptrdiff_t n, void *result)
{
    enum { CHAINS = 10 }; /* latency of 4 cycles, 2 a cycle: 8 chains suffice; 10 fit every register file */
    V sums[CHAINS];
    for (int c = 0; c < CHAINS; c++) /* different, or the compiler sees that one chain is enough */
        sums[c] = FN(all)((T)c);
    const V x = FN(all)((T)1.0000001), y = FN(all)(*(T *)result);
    for (ptrdiff_t round = 0; round < n; round++)
        for (int c = 0; c < CHAINS; c++)
            sums[c] = VOP(fma)(sums[c], x, y);
    for (int c = 1; c < CHAINS; c++)
        sums[0] += sums[c];
    *(T *)result = sums[0][0];
    return 2.0 * CHAINS * LANES * (double)n;
}

static int64_t FN(read_all)(const void *block, ptrdiff_t n_bytes)
{
    const T *p = block;
    I bits[4] = {{0}};
    for (ptrdiff_t j = 0; j + 4 * LANES <= n_bytes / (ptrdiff_t)sizeof(T); j += 4 * LANES)
        for (int v = 0; v < 4; v++)
            bits[v] ^= (I)FN(load)(p + j + v * LANES);
    bits[0] ^= bits[1] ^ bits[2] ^ bits[3];
    return bits[0][0] ^ bits[0][1];
}
