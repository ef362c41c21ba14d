/* Softmax and cross-entropy of class-major blocks: the lanes are rows. */

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
        V chunk = {0};
        for (ptrdiff_t k = begin; k < end; k++) {
            const V e = FN(exp)(FN(load)(x + k * ld) - shift);
            if (keep)
                FN(store)(x + k * ld, e);
            chunk += e;
        }
        total += chunk;
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
    const unsigned was = flush_subnormals(); /* where one class is almost certain, the others' exponentials are such */
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
        const I counts = factor != 0; /* a row of weight 0 is left out, even where its loss is NaN */
        for (ptrdiff_t k = 0; k < n_classes; k++) {
            /* below the normal numbers it is 0: a subnormal operand costs a product some 100 cycles */
            const V d = FN(load)(logits + k * ld) * share;
            FN(store)(logits + k * ld, (V)((I)d & counts & ~(d < SMALLEST_NORMAL)));
        }
        for (ptrdiff_t lane = 0; lane < n; lane++)
            logits[y[i + lane] * ld + lane] -= factor[lane];
    }
    put_back(was);
}
