/* Softmax and cross-entropy of row-major rows: the lanes are classes. */

/* Where the last vector of a row of n classes begins, if whole vectors have the first k < n. Where masks cost nothing,
 * at k. Elsewhere it ends with the row, and has some classes of the vector before once more: that takes less time than
 * to handle a few lanes alone. */
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

/* ---- the second half of a row: its result ---- */

/* EXPONENTIAL: softmax is exp(x - largest) * factor. KEPT: x is the exponential already, softmax is x * factor.
 * LOGARITHM: log_softmax is x - largest - factor, where factor is the logarithm of the sum. */
INLINE V FN(finished)(V x, const row_finish finish, T largest, T factor)
{
    return finish == LOGARITHM ? x - largest - factor : finish == KEPT ? x * factor : FN(exp)(x - largest) * factor;
}

/* The tail like the rest; out may be x. */
INLINE void FN(finish_row)(ptrdiff_t n_classes, const T *x, const row_finish finish, T largest, T factor, T *out)
{
    const ptrdiff_t whole = n_classes / LANES * LANES, at = FN(last_vector)(whole, n_classes), n = n_classes - at;
    V last = {0}; /* read before it may be written */
    if (whole < n_classes)
        last = FN(finished)(FN(load_first)(x + at, n, 0), finish, largest, factor);
    for (ptrdiff_t k = 0; k < whole; k += LANES)
        FN(store)(out + k, FN(finished)(FN(load)(x + k), finish, largest, factor));
    if (whole < n_classes)
        FN(store_first)(out + at, last, n);
}

#if !defined(STREAM)
#define STREAM(p, v) FN(store)(p, v)
#define STREAM_FENCE()
#endif

/* A row whose result is written, a vector at a time, while the next row is summed: memory and half of the arithmetic
 * units have little to do then. Whole aligned vectors of the result are begin .. end; `left` of them are still to be
 * written, the next one at k. Then class `label` loses `by`. Writing starts at a third of the row: if the same
 * position were read of one row and written of the other, both would meet in one bank of memory where rows are a power
 * of two apart, or loads would wait for stores to the same offset of another page (Zen 4: 2,048 x 32,768 takes 1.6
 * times as long, 4,096 x 1,000 1.4 times). Past the caches, a line that is only written need not be read. */
typedef struct {
    const T *from;
    T *out, largest, factor, by;
    ptrdiff_t k, begin, end, left, label;
    int past_caches;
} FN(unfinished);

/* What is less than a vector is written at once; `out` may be `from`. */
INLINE FN(unfinished) FN(unfinished_row)(ptrdiff_t n_classes, const T *from, const row_finish finish, T largest,
                                         T factor, T *out, int past_caches)
{
    const ptrdiff_t before = (ptrdiff_t)(-(uintptr_t)out % sizeof(V) / sizeof(T));
    const ptrdiff_t begin = before < n_classes ? before : n_classes, left = (n_classes - begin) / LANES;
    const ptrdiff_t end = begin + left * LANES, n = n_classes - end;
    if (begin > 0)
        FN(store_first)(out, FN(finished)(FN(load_first)(from, begin, 0), finish, largest, factor), begin);
    if (n > 0)
        FN(store_first)(out + end, FN(finished)(FN(load_first)(from + end, n, 0), finish, largest, factor), n);
    return (FN(unfinished)){from, out, largest, factor, 0, begin + left / 3 * LANES, begin, end, left, 0, past_caches};
}

INLINE void FN(finish_vector)(FN(unfinished) *row, const row_finish finish)
{
    if (row->left == 0)
        return;
    const V result = FN(finished)(FN(load)(row->from + row->k), finish, row->largest, row->factor);
    if (row->past_caches)
        STREAM(row->out + row->k, result);
    else
        FN(store)(row->out + row->k, result);
    row->k = row->k + LANES < row->end ? row->k + LANES : row->begin;
    row->left--;
}

/* Past the caches, the label's vector is computed once more, as it is not to be read. */
INLINE void FN(finish_rest)(FN(unfinished) *row, const row_finish finish)
{
    const ptrdiff_t k = row->label;
    while (row->left > 0)
        FN(finish_vector)(row, finish);
    if (row->by != 0 && (!row->past_caches || k < row->begin || k >= row->end)) {
        row->out[k] -= row->by;
    } else if (row->by != 0) {
        T lanes[LANES];
        const ptrdiff_t lane = (k - row->begin) % LANES;
        FN(store)(lanes, FN(finished)(FN(load)(row->from + k - lane), finish, row->largest, row->factor));
        lanes[lane] -= row->by;
        STREAM(row->out + k - lane, FN(load)(lanes));
    }
    row->by = 0;
}

/* ---- the first half: its maximum and its sum ---- */

/* The sum of exp(x[k] - shift) in each lane; the exponentials go to out unless it is NULL. Arithmetic bounds this loop,
 * so memory has time to bring the row that comes next (`later`) and the lines of the result, and to write the row
 * before (`before`). Each of the three may be NULL. */
INLINE V FN(lanes_sum_exp)(ptrdiff_t n_classes, const T *x, T shift, T *out, const int is_short, const T *later,
                           const T *result, FN(unfinished) *before, const row_finish finish)
{
    enum { LINE = 64 / sizeof(T) };
    const ptrdiff_t whole = n_classes / LANES * LANES, at = FN(last_vector)(whole, n_classes);
    V total = {0}, last = {0}; /* read before it may be written */
    ptrdiff_t k = 0;
    if (whole < n_classes)
        last = FN(exp)(FN(load_first)(x + at, n_classes - at, (T)-INFINITY) - shift);
    while (k + 2 * LANES <= whole) {
        V chunk[2] = {{0}, {0}};
        for (int turn = 0; turn < SUM_CHUNK && k + 2 * LANES <= whole; turn++, k += 2 * LANES) {
            for (int j = 0; j < 2 * LANES; j += LINE) {
                if (later && is_short) /* clang wants the level as a literal */
                    __builtin_prefetch(later + k + j, 0, 3);
                else if (later)
                    __builtin_prefetch(later + k + j, 0, 2);
                if (result)
                    __builtin_prefetch(result + k + j, 1, 3);
            }
            for (int v = 0; v < 2; v++) {
                const V e = FN(exp)(FN(load)(x + k + v * LANES) - shift);
                if (out)
                    FN(store)(out + k + v * LANES, e);
                chunk[v] += e;
                if (before)
                    FN(finish_vector)(before, finish);
            }
        }
        total += chunk[0] + chunk[1];
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
    return FN(lanes_sum_exp)(n_classes, x, shift, out, 1, later, result, NULL, KEPT);
#endif
}

INLINE T FN(row_sum_exp)(ptrdiff_t n_classes, const T *x, T shift, T *out, const T *later, FN(unfinished) *before,
                         const row_finish finish)
{
    return FN(sum_lanes)(FN(lanes_sum_exp)(n_classes, x, shift, out, 0, later, NULL, before, finish));
}

/* The sum of exp(x[k] - largest) of a long row, by chunks that stay in L1 from their maximum to their exponentials.
 * Where a chunk has a larger x, the sum so far is scaled down. `later` is the row that comes next. */
INLINE T FN(sum_exp_in_chunks)(ptrdiff_t n_classes, const T *x, const T *later, T *largest, FN(unfinished) *before,
                               const row_finish finish)
{
    enum { ROW_CHUNK = ROW_CHUNK_BYTES / sizeof(T) };
    T sum = 0, shift = (T)-INFINITY;
    for (ptrdiff_t at = 0; at < n_classes; at += ROW_CHUNK) {
        const ptrdiff_t n = n_classes - at < ROW_CHUNK ? n_classes - at : ROW_CHUNK;
        const T own = FN(row_max)(n, x + at);
        if (own > shift) {
            sum *= FN(exp)(FN(all)(shift - own))[0];
            shift = own;
        }
        /* where all have been -inf, the exponentials are 0 */
        sum += FN(row_sum_exp)(n, x + at, shift > (T)-INFINITY ? shift : -LARGEST_NUMBER, NULL, later + at, before,
                               finish);
    }
    *largest = shift;
    return sum;
}

static T FN(log_of)(T x)
{
    return FN(log)(FN(all)(x))[0];
}

/* Row i of `kept`. Rows of n_classes, in whole vectors, lie close together: if they were SHORT_ROW vectors apart, rows
 * of a few vectors would share a few sets of L1. */
#define KEPT_ROW(kept, i) ((T *)((kept) + (i) * ((n_classes + LANES - 1) / LANES)))

/* Maxima and sums of exponentials of up to LANES rows of up to SHORT_ROW vectors at once: what a row has one of takes
 * one lane, so no row waits for another's horizontal fold, division or logarithm. The exponentials go to `kept` (unless
 * it is NULL), where KEPT_ROW finds each row; `out` is where the result will go, or NULL. */
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
            FN(finish_row)(n_classes, x + i * x_stride, LOGARITHM, largest[i], factor[i], out + i * out_stride);
        else
            FN(finish_row)(n_classes, KEPT_ROW(kept, i), KEPT, largest[i], factor[i], out + i * out_stride);
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
    const row_finish waiting = logarithm ? LOGARITHM : KEPT;
    const int exceeds = n_classes >= LONG_ROW / (ptrdiff_t)sizeof(T);
    /* by the row alone, so that its sum does not depend on where the result goes */
    const int keeps = !logarithm && (KEEPS_IN_PLACE || !exceeds ||
                                     (KEEPS_APART && n_classes <= MOST_KEPT / (ptrdiff_t)sizeof(T)));
    const int apart = keeps && kept && KEEPS_APART, in_place = keeps && !apart && (KEEPS_IN_PLACE || !kept);
    const int past_caches = kept && !in_place;
    FN(unfinished) before = {0};
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        const T *logits = x + i * x_stride, *later = logits + x_stride;
        T *to = out + i * out_stride, *aside = apart ? KEPT_ROW((V *)kept, i % 2) : NULL, largest, sum;
        if (exceeds && !keeps) {
            sum = FN(sum_exp_in_chunks)(n_classes, logits, later, &largest, &before, waiting);
        } else {
            largest = FN(row_max)(n_classes, logits);
            sum = FN(row_sum_exp)(n_classes, logits, largest, in_place ? to : aside, later, &before, waiting);
        }
        FN(finish_rest)(&before, waiting);
        const T factor = logarithm ? FN(log_of)(sum) : 1 / sum;
        if (past_caches ? apart || logarithm : in_place && !exceeds) {
            const T *from = in_place ? to : apart ? aside : logits;
            before = FN(unfinished_row)(n_classes, from, waiting, largest, factor, to, past_caches);
        } else if (past_caches) { /* exponentials once more: not between those of the next row */
            before = FN(unfinished_row)(n_classes, logits, EXPONENTIAL, largest, factor, to, 1);
            FN(finish_rest)(&before, EXPONENTIAL);
        } else if (in_place) { /* L1 has no room for another row */
            FN(finish_row)(n_classes, to, KEPT, largest, factor, to);
        } else { /* lines of a result that is only written come fastest in order, row by row */
            FN(finish_row)(n_classes, logits, logarithm ? LOGARITHM : EXPONENTIAL, largest, factor, to);
        }
    }
    FN(finish_rest)(&before, waiting);
    if (kept) { /* one fence for all rows: the next row's stores would wait for one after each */
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
            FN(finish_row)(n_classes, KEPT_ROW(kept, i), KEPT, largest[i], share[i], dx + i * dx_stride);
            dx[i * dx_stride + y[i]] -= factor * weight[i];
        }
    }
}

/* One row. `later` comes next, or is NULL. The row in `before` is finished meanwhile; afterwards `before` holds what is
 * left to do for this one. The rows take the two halves of the scratch in turn. */
INLINE void FN(cross_entropy_row)(ptrdiff_t n_classes, const T *x, const T *target, const int64_t *y, int64_t ignored,
                                  const T *label_weight, T factor, T *loss, T *dx, T *kept, ptrdiff_t half,
                                  const T *later, FN(unfinished) *before)
{
    const int apart = KEEPS_APART && kept && dx && !target && n_classes <= MOST_KEPT / (ptrdiff_t)sizeof(T);
    T *aside = apart ? KEPT_ROW((V *)kept, half) : NULL;
    const T spike = FN(weight_of_label)(y, ignored, label_weight), largest = FN(row_max)(n_classes, x);
    T mass = 0, found = 0;
    if (target && (!y || *y != ignored))
        found = FN(dense_loss)(n_classes, target, x, largest, &mass);
    mass += spike;
    if (mass == 0) { /* ignored, or all its classes weigh nothing: left out even if x has a NaN */
        *loss = 0;
        if (dx)
            memset(dx, 0, (size_t)n_classes * sizeof(T));
        FN(finish_rest)(before, KEPT); /* the next row takes the half of the scratch that `before` reads */
        return;
    }
    if (spike != 0)
        found += spike * (x[*y] - largest);
    const T sum = FN(row_sum_exp)(n_classes, x, largest, apart ? aside : dx, later, before, KEPT);
    const T share = factor * mass / sum;
    FN(finish_rest)(before, KEPT);
    *loss = mass * FN(log_of)(sum) - found;
    if (!dx)
        return;
    if (apart || (!target && n_classes < LONG_ROW / (ptrdiff_t)sizeof(T))) {
        *before = FN(unfinished_row)(n_classes, apart ? aside : dx, KEPT, largest, share, dx, apart);
        before->by = spike != 0 ? factor * spike : 0;
        before->label = spike != 0 ? *y : 0;
        return;
    }
    FN(finish_row)(n_classes, dx, KEPT, largest, share, dx);
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
    FN(unfinished) before = {0};
    for (ptrdiff_t i = 0, n; i < n_rows; i += n) {
        const T *x = (const T *)logits + i * logits_stride;
        T *dx = dlogits ? (T *)dlogits + i * dlogits_stride : NULL, *loss = (T *)losses + i;
        n = !together ? 1 : n_rows - i < LANES ? n_rows - i : LANES;
        if (together)
            FN(short_cross_entropy)(n, n_classes, x, logits_stride, y + i, ignored, label_weight, (T)factor, loss, dx,
                                    dlogits_stride);
        else
            FN(cross_entropy_row)(n_classes, x, dense ? (const T *)dense + i * dense_stride : NULL, y ? y + i : NULL,
                                  ignored, label_weight, (T)factor, loss, dx, kept, i % 2,
                                  n_rows > 1 ? x + logits_stride : NULL, &before);
    }
    FN(finish_rest)(&before, KEPT);
    if (kept) {
        STREAM_FENCE();
    }
}
