/* Softmax and cross-entropy of row-major rows: the lanes are classes. */

/* Where the last vector of a row of n begins, when k < n have been seen. Where masks cost nothing, it has the others
 * alone; elsewhere some of those before once more, which takes less time than to go about a few lanes. */
INLINE ptrdiff_t FN(last_vector)(ptrdiff_t k, ptrdiff_t n)
{
#if defined(HAS_MASKS)
    (void)n;
    return k;
#else
    return n < LANES ? k : n - LANES;
#endif
}

/* v, but 0 in its first n lanes. */
INLINE V FN(without_first)(V v, ptrdiff_t n)
{
    I lanes = {0};
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = lane;
    return (V)((I)v & (lanes >= (INTEGER)n));
}

/* The largest x[k] of each lane; NaN may be passed over: the sum of exponentials brings it back. */
INLINE V FN(lanes_max)(ptrdiff_t n_classes, const T *x)
{
    V largest[4]; /* four in flight: one alone would wait for itself */
    for (int v = 0; v < 4; v++)
        largest[v] = FN(all)((T)-INFINITY);
    ptrdiff_t k = 0;
    for (; k + 4 * LANES <= n_classes; k += 4 * LANES)
        for (int v = 0; v < 4; v++)
            largest[v] = FN(larger)(FN(load)(x + k + v * LANES), largest[v]);
    for (; k + LANES <= n_classes; k += LANES)
        largest[0] = FN(larger)(FN(load)(x + k), largest[0]);
    if (k < n_classes) {
        k = FN(last_vector)(k, n_classes);
        largest[1] = FN(larger)(FN(load_first)(x + k, n_classes - k, (T)-INFINITY), largest[1]);
    }
    return FN(larger)(FN(larger)(largest[0], largest[1]), FN(larger)(largest[2], largest[3]));
}

INLINE T FN(row_max)(ptrdiff_t n_classes, const T *x)
{
    return FN(largest_lane)(FN(lanes_max)(n_classes, x));
}

/* The sum of exp(x[k] - shift) in each lane; the exponentials go to out unless it is NULL. Arithmetic bounds this loop:
 * memory has time to bring a row that comes next, `later`, and the lines where the result will go (or NULL). */
INLINE V FN(lanes_sum_exp)(ptrdiff_t n_classes, const T *x, T shift, T *out, const int is_short, const T *later,
                           const T *result)
{
    enum { LINE = 64 / sizeof(T) };
    const ptrdiff_t whole = n_classes / LANES * LANES, at = FN(last_vector)(whole, n_classes);
    V total = {0}, last = {0}; /* read before it may be written */
    ptrdiff_t k = 0;
    if (whole < n_classes)
        last = FN(exp)(FN(load_first)(x + at, n_classes - at, (T)-INFINITY) - shift);
    while (k + 2 * LANES <= whole) {
        V part[2] = {{0}, {0}};
        for (int step = 0; step < SUM_CHUNK && k + 2 * LANES <= whole; step++, k += 2 * LANES) {
            for (int j = 0; j < 2 * LANES; j += LINE) {
                if (later)
                    __builtin_prefetch(later + k + j, 0, is_short ? 3 : 2);
                if (result)
                    __builtin_prefetch(result + k + j, 1, 3);
            }
            for (int v = 0; v < 2; v++) {
                const V e = FN(exp)(FN(load)(x + k + v * LANES) - shift);
                if (out)
                    FN(store)(out + k + v * LANES, e);
                part[v] += e;
            }
        }
        total += part[0] + part[1];
    }
    if (k < whole) {
        const V e = FN(exp)(FN(load)(x + k) - shift);
        if (out)
            FN(store)(out + k, e);
        total += e;
    }
    if (whole < n_classes) {
        if (out)
            FN(store_first)(out + at, last, n_classes - at);
        /* a filled lane adds 0; or NaN if shift is -inf, as then every lane does */
        total += at < whole ? FN(without_first)(last, whole - at) : last;
    }
    return total;
}

/* The same of a short row; out, if it is not NULL, has room for whole vectors. Where masks cost nothing, the last lanes
 * go the way of the others, whose constants are in registers (Zen 4: 65,536 x 48 takes 1.15 times as long without). */
INLINE V FN(short_sum_exp)(ptrdiff_t n_classes, const T *x, T shift, T *out, const T *later, const T *result)
{
#if defined(HAS_MASKS)
    V total = {0}, v = FN(load_first)(x, n_classes < LANES ? n_classes : LANES, (T)-INFINITY);
    for (ptrdiff_t k = 0;;) {
        const V e = FN(exp)(v - shift);
        __builtin_prefetch(later + k, 0, 3);
        if (result)
            __builtin_prefetch(result + k, 1, 3);
        if (out)
            FN(store)(out + k, e);
        total += e;
        k += LANES;
        if (k >= n_classes)
            return total;
        v = k + LANES <= n_classes ? FN(load)(x + k) : FN(load_first)(x + k, n_classes - k, (T)-INFINITY);
    }
#else
    return FN(lanes_sum_exp)(n_classes, x, shift, out, 1, later, result);
#endif
}

INLINE T FN(row_sum_exp)(ptrdiff_t n_classes, const T *x, T shift, T *out, const T *later)
{
    return FN(sum_lanes)(FN(lanes_sum_exp)(n_classes, x, shift, out, 0, later, NULL));
}

/* out[k] = factor * x[k], the tail like the rest; out may be x */
INLINE void FN(row_scale)(ptrdiff_t n_classes, const T *x, T factor, T *out)
{
    const ptrdiff_t whole = n_classes / LANES * LANES, at = FN(last_vector)(whole, n_classes), n = n_classes - at;
    V last = {0}; /* read before it may be written */
    if (whole < n_classes)
        last = FN(load_first)(x + at, n, 0) * factor;
    for (ptrdiff_t k = 0; k < whole; k += LANES)
        FN(store)(out + k, FN(load)(x + k) * factor);
    if (whole < n_classes)
        FN(store_first)(out + at, last, n);
}

/* The sum of exp(x[k] - largest) of a long row, in pieces that stay in the first cache from their maximum to their
 * exponentials: what has been summed is scaled down where a larger x comes. `later` is the row that comes next. */
static T FN(sum_exp_in_pieces)(ptrdiff_t n_classes, const T *x, const T *later, T *largest)
{
    enum { PIECE = PIECE_BYTES / sizeof(T) };
    T sum = 0, shift = (T)-INFINITY;
    for (ptrdiff_t at = 0; at < n_classes; at += PIECE) {
        const ptrdiff_t n = n_classes - at < PIECE ? n_classes - at : PIECE;
        const T own = FN(row_max)(n, x + at);
        if (own > shift) {
            sum *= FN(exp)(FN(all)(shift - own))[0];
            shift = own;
        }
        /* where all have been -inf, the exponentials are 0 */
        sum += FN(row_sum_exp)(n, x + at, shift > (T)-INFINITY ? shift : -LARGEST_NUMBER, NULL, later + at);
    }
    *largest = shift;
    return sum;
}

/* softmax, factor * exp(x[k] - largest) or, where x[k] is the exponential itself (KEPT), factor * x[k]; or its
 * logarithm, x[k] - largest - factor. Past the caches, a line that is only written need not be read. */
INLINE void FN(finish_row)(ptrdiff_t n_classes, const T *x, const int past_caches, const row_finish finish, T largest,
                           T factor, T *out)
{
#define FINISHED(v)                                                                                    \
    (finish == LOGARITHM ? (v) - largest - factor : finish == KEPT ? (v) * factor : FN(exp)((v) - largest) * factor)
#if !defined(STREAM)
#define STREAM(p, v) FN(store)(p, v)
#define STREAM_FENCE()
#endif
    const ptrdiff_t before = past_caches ? (ptrdiff_t)(-(uintptr_t)out % sizeof(V) / sizeof(T)) : 0;
    ptrdiff_t k = before < n_classes ? before : n_classes;
    const ptrdiff_t whole = k + (n_classes - k) / LANES * LANES, at = FN(last_vector)(whole, n_classes);
    V last = {0}; /* read before it may be written */
    if (whole < n_classes)
        last = FINISHED(FN(load_first)(x + at, n_classes - at, 0));
    if (k > 0)
        FN(store_first)(out, FINISHED(FN(load_first)(x, k, 0)), k);
    for (; k < whole; k += LANES)
        if (past_caches)
            STREAM(out + k, FINISHED(FN(load)(x + k)));
        else
            FN(store)(out + k, FINISHED(FN(load)(x + k)));
    if (whole < n_classes)
        FN(store_first)(out + at, last, n_classes - at);
#undef FINISHED
}

static T FN(log_of)(T x)
{
    return FN(log)(FN(all)(x))[0];
}

/* Rows close together: a power of two apart, they would share a few sets of the first cache. */
#define KEPT_ROW(kept, i) (T *)((kept) + (i) * ((n_classes + LANES - 1) / LANES))

/* Up to LANES rows of up to SHORT_ROW vectors at once: what a row has one of takes one lane, and no row waits for
 * another's horizontal fold, division or logarithm. Their maxima, and the sums of their exponentials, which go to
 * `kept` unless it is NULL, where KEPT_ROW has each row; `out` is where the result will go, or NULL. */
INLINE V FN(short_sums)(ptrdiff_t n, ptrdiff_t n_classes, const T *x, ptrdiff_t x_stride, T maxima[LANES],
                        V *kept, const T *out, ptrdiff_t out_stride)
{
    V lanes[LANES];
    if (n < LANES)
        memset(lanes, 0, sizeof lanes);
    for (ptrdiff_t i = 0; i < n; i++)
        lanes[i] = FN(lanes_max)(n_classes, x + i * x_stride);
    FN(store)(maxima, FN(fold)(lanes, 1));
    if (n < LANES)
        memset(lanes, 0, sizeof lanes);
    for (ptrdiff_t i = 0; i < n; i++)
        lanes[i] = FN(short_sum_exp)(n_classes, x + i * x_stride, maxima[i], kept ? KEPT_ROW(kept, i) : NULL,
                                     x + (i + n) * x_stride, out ? out + i * out_stride : NULL);
    return FN(fold)(lanes, 0);
}

INLINE void FN(short_rows)(ptrdiff_t n, ptrdiff_t n_classes, const T *x, ptrdiff_t x_stride, T *out,
                           ptrdiff_t out_stride, const int logarithm)
{
    V kept[LANES * SHORT_ROW];
    T largest[LANES], factor[LANES];
    const V sums = FN(short_sums)(n, n_classes, x, x_stride, largest, logarithm ? NULL : kept, out, out_stride);
    FN(store)(factor, logarithm ? FN(log)(sums) : 1 / sums);
    for (ptrdiff_t i = 0; i < n; i++)
        if (logarithm)
            FN(finish_row)(n_classes, x + i * x_stride, 0, LOGARITHM, largest[i], factor[i], out + i * out_stride);
        else
            FN(row_scale)(n_classes, KEPT_ROW(kept, i), factor[i], out + i * out_stride);
}

INLINE void FN(either_softmax_rows)(ptrdiff_t n_rows, ptrdiff_t n_classes, const T *x, ptrdiff_t x_stride, T *out,
                                    ptrdiff_t out_stride, T *kept, const int logarithm)
{
    if (n_classes <= SHORT_ROW * LANES) {
        for (ptrdiff_t i = 0; i < n_rows; i += LANES)
            FN(short_rows)(n_rows - i < LANES ? n_rows - i : LANES, n_classes, x + i * x_stride, x_stride,
                           out + i * out_stride, out_stride, logarithm);
        return;
    }
    const row_finish finish = logarithm ? LOGARITHM : EXPONENTIAL;
    const int exceeds = n_classes >= LONG_ROW / (ptrdiff_t)sizeof(T);
    /* by the row alone, so that its sum does not depend on where the result goes */
    const int keeps = !logarithm && (KEEPS_IN_PLACE || !exceeds ||
                                     (KEEPS_APART && n_classes <= MOST_KEPT / (ptrdiff_t)sizeof(T)));
    const int apart = keeps && kept && KEEPS_APART, in_place = keeps && !apart && (KEEPS_IN_PLACE || !kept);
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        const T *logits = x + i * x_stride, *later = logits + x_stride;
        T *to = out + i * out_stride, largest, sum;
        if (exceeds && !keeps) {
            sum = FN(sum_exp_in_pieces)(n_classes, logits, later, &largest);
        } else {
            largest = FN(row_max)(n_classes, logits);
            sum = FN(row_sum_exp)(n_classes, logits, largest, apart ? kept : in_place ? to : NULL, later);
        }
        const T factor = logarithm ? FN(log_of)(sum) : 1 / sum;
        if (in_place)
            FN(row_scale)(n_classes, to, factor, to);
        else if (apart)
            FN(finish_row)(n_classes, kept, 1, KEPT, largest, factor, to);
        else if (kept)
            FN(finish_row)(n_classes, logits, 1, finish, largest, factor, to);
        else
            FN(finish_row)(n_classes, logits, 0, finish, largest, factor, to);
    }
    if (kept) { /* once: the stores of the next row would wait for each of them */
        STREAM_FENCE();
    }
}

static void FN(softmax_rows)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *x, ptrdiff_t x_stride,
                             void *out, ptrdiff_t out_stride, void *kept)
{
    FN(either_softmax_rows)(n_rows, n_classes, x, x_stride, out, out_stride, kept, 0);
}

static void FN(log_softmax_rows)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *x, ptrdiff_t x_stride,
                                 void *out, ptrdiff_t out_stride, void *kept)
{
    FN(either_softmax_rows)(n_rows, n_classes, x, x_stride, out, out_stride, kept, 1);
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

/* The weight of a row's label: 0 if it has none. */
INLINE T FN(weight_of_label)(const int64_t *y, int64_t ignored, const T *label_weight)
{
    return !y || *y == ignored ? 0 : label_weight ? label_weight[*y] : 1;
}

/* Losses and gradient of up to LANES short rows with labels, as `cross_entropy_row` has them one by one. */
static void FN(short_cross_entropy)(ptrdiff_t n, ptrdiff_t n_classes, const T *x, ptrdiff_t x_stride, const int64_t *y,
                                    int64_t ignored, const T *label_weight, T factor, T *losses, T *dx,
                                    ptrdiff_t dx_stride)
{
    V kept[LANES * SHORT_ROW];
    T largest[LANES], log_sum[LANES], weight[LANES] = {0}, share[LANES];
    const V sums = FN(short_sums)(n, n_classes, x, x_stride, largest, dx ? kept : NULL, dx, dx_stride);
    for (ptrdiff_t i = 0; i < n; i++)
        weight[i] = FN(weight_of_label)(y + i, ignored, label_weight);
    FN(store)(log_sum, FN(log)(sums));
    FN(store)(share, FN(load)(weight) * factor / sums);
    for (ptrdiff_t i = 0; i < n; i++) {
        losses[i] = 0; /* left out even if x has a NaN */
        if (weight[i] != 0)
            losses[i] = weight[i] * log_sum[i] - weight[i] * (x[i * x_stride + y[i]] - largest[i]);
        if (dx && weight[i] == 0) {
            memset(dx + i * dx_stride, 0, (size_t)n_classes * sizeof(T));
        } else if (dx) {
            FN(row_scale)(n_classes, KEPT_ROW(kept, i), share[i], dx + i * dx_stride);
            dx[i * dx_stride + y[i]] -= factor * weight[i];
        }
    }
}

/* out[k] = factor * kept[k] - by: its vector once more, as it was written past the caches and is not to be read. */
INLINE void FN(finish_label)(ptrdiff_t n_classes, const T *kept, T factor, ptrdiff_t k, T by, T *out)
{
    const ptrdiff_t before = (ptrdiff_t)(-(uintptr_t)out % sizeof(V) / sizeof(T));
    const ptrdiff_t at = k < before ? n_classes : before + (k - before) / LANES * LANES;
    if (n_classes - at < LANES) {
        out[k] = kept[k] * factor - by;
        return;
    }
    T lanes[LANES];
    FN(store)(lanes, FN(load)(kept + at) * factor);
    lanes[k - at] -= by;
    STREAM(out + at, FN(load)(lanes));
}

/* One row; `later` comes next, or is NULL. */
INLINE void FN(cross_entropy_row)(ptrdiff_t n_classes, const T *x, const T *target, const int64_t *y, int64_t ignored,
                                  const T *label_weight, T factor, T *loss, T *dx, T *kept, const T *later)
{
    const int apart = KEEPS_APART && kept && dx && !target && n_classes <= MOST_KEPT / (ptrdiff_t)sizeof(T);
    const T spike = FN(weight_of_label)(y, ignored, label_weight), largest = FN(row_max)(n_classes, x);
    T mass = 0, found = 0;
    if (target && (!y || *y != ignored))
        found = FN(dense_loss)(n_classes, target, x, largest, &mass);
    mass += spike;
    if (mass == 0) { /* ignored, or all its classes weigh nothing: left out even if x has a NaN */
        *loss = 0;
        if (dx)
            memset(dx, 0, (size_t)n_classes * sizeof(T));
        return;
    }
    if (spike != 0)
        found += spike * (x[*y] - largest);
    const T sum = FN(row_sum_exp)(n_classes, x, largest, apart ? kept : dx, later), share = factor * mass / sum;
    *loss = mass * FN(log_of)(sum) - found;
    if (!dx)
        return;
    if (apart) {
        FN(finish_row)(n_classes, kept, 1, KEPT, largest, share, dx);
        if (spike != 0)
            FN(finish_label)(n_classes, kept, share, *y, factor * spike, dx);
        return;
    }
    FN(row_scale)(n_classes, dx, share, dx);
    for (ptrdiff_t k = 0; target && k < n_classes; k++)
        dx[k] -= factor * target[k];
    if (spike != 0)
        dx[*y] -= factor * spike;
}

static void FN(cross_entropy_rows)(ptrdiff_t n_rows, ptrdiff_t n_classes, const void *logits,
                                   ptrdiff_t logits_stride, const void *dense, ptrdiff_t dense_stride,
                                   const int64_t *y, int64_t ignored, const void *label_weight,
                                   double factor, void *losses, void *dlogits, ptrdiff_t dlogits_stride, void *kept)
{
    const int together = y && !dense && n_classes <= SHORT_ROW * LANES;
    for (ptrdiff_t i = 0, n; i < n_rows; i += n) {
        const T *x = (const T *)logits + i * logits_stride;
        T *dx = dlogits ? (T *)dlogits + i * dlogits_stride : NULL, *loss = (T *)losses + i;
        n = !together ? 1 : n_rows - i < LANES ? n_rows - i : LANES;
        if (together)
            FN(short_cross_entropy)(n, n_classes, x, logits_stride, y + i, ignored, label_weight, (T)factor, loss, dx,
                                    dlogits_stride);
        else
            FN(cross_entropy_row)(n_classes, x, dense ? (const T *)dense + i * dense_stride : NULL, y ? y + i : NULL,
                                  ignored, label_weight, (T)factor, loss, dx, kept,
                                  n_rows > 1 ? x + logits_stride : NULL);
    }
    if (kept) {
        STREAM_FENCE();
    }
}
