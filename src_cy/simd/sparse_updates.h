/* Minibatches of sparse rows: what happens to the lines of W that a batch has, and to those that it does not have. */

/* Each number moves by t toward 0, and stops there; NaN stays. */
INLINE V FN(shrunk)(V w, V t)
{
    const I sign = (I)w & (I)FN(all)((T)-0.0), small = (w <= t) & (w >= -t);
    return (V)((I)(w - (V)((I)t | sign)) & ~small);
}

/* One step of SGD for each line, by its gradient; then the L1 penalty's share of the step. */
static void FN(sparse_step)(ptrdiff_t n_lines, const int32_t *at, ptrdiff_t n_classes, const void *gradient,
                            ptrdiff_t gradient_ld, ptrdiff_t ld, const gradient_sink *sink, double shrinks)
{
    const T scale = (T)sink->scale;
    for (ptrdiff_t i = 0; i < n_lines; i++) {
        const ptrdiff_t line = at[i] * ld;
        const T *g = (const T *)gradient + i * gradient_ld;
        for (ptrdiff_t k = 0; k < n_classes; k += LANES) {
            const ptrdiff_t n = n_classes - k < LANES ? n_classes - k : LANES;
            FN(into_sink)(sink, line + k, n, FN(load_first)(g + k, n, 0), scale);
            if (shrinks > 0) {
                T *w = (T *)sink->W + line + k;
                FN(store_first)(w, FN(shrunk)(FN(load_first)(w, n, 0), FN(all)((T)shrinks)), n);
            }
        }
    }
}

/* Line i of W and velocity (NULL: none) has had no gradient for rested[i] steps: it gets what they would have done. */
static void FN(sparse_rest)(ptrdiff_t n_lines, const int32_t *at, const int32_t *rested, const sparse_rests *rests,
                            ptrdiff_t n_classes, void *W, void *velocity, ptrdiff_t ld)
{
    for (ptrdiff_t i = 0; i < n_lines; i++) {
        const sparse_rests *rest = rests + rested[i];
        if (i + LINES_AHEAD < n_lines) {
            const T *later = (const T *)W + at[i + LINES_AHEAD] * ld;
            for (ptrdiff_t k = 0; k < n_classes; k += 64 / (ptrdiff_t)sizeof(T))
                __builtin_prefetch(later + k, 1, 3);
        }
        if (rested[i] == 0)
            continue;
        for (ptrdiff_t k = 0; k < n_classes; k += LANES) {
            const ptrdiff_t n = n_classes - k < LANES ? n_classes - k : LANES;
            T *w = (T *)W + at[i] * ld + k;
            const V before = FN(load_first)(w, n, 0);
            V after = before * (T)rest->W_of_W;
            if (velocity) {
                T *v = (T *)velocity + at[i] * ld + k;
                const V was = FN(load_first)(v, n, 0);
                after += was * (T)rest->W_of_velocity;
                FN(store_first)(v, before * (T)rest->velocity_of_W + was * (T)rest->velocity_of_velocity, n);
            }
            FN(store_first)(w, rest->shrinks > 0 ? FN(shrunk)(after, FN(all)((T)rest->shrinks)) : after, n);
        }
    }
}
