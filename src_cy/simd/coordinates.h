/* The proximal Newton's kernels: rows by their classes, and coordinate descent on the quadratic model of one class. */

/* Rows begin .. begin + n of logits + step * delta: P becomes their probabilities, R (row-major) what their losses add
 * to the gradient, weight[i] (p - e_y). Returns the weighted sum of the losses. n <= LOGIT_ROWS; begin is a multiple of
 * it, so whole vectors may be read and written. Per element: one exp, 3 loads and 3 stores. */
static double FN(logit_step)(const logit_rows *rows, ptrdiff_t begin, ptrdiff_t n, double step)
{
    const ptrdiff_t ld = rows->ld, n_classes = rows->n_classes;
    const V t = FN(all)((T)step);
    T *P = (T *)rows->P + begin, *R = (T *)rows->R + begin * rows->R_ld;
    T losses[LOGIT_ROWS], ones[LOGIT_ROWS];
    int64_t predictions[LOGIT_ROWS];
    const int64_t *y = rows->y + begin;
    for (ptrdiff_t k = 0; k < n_classes; k++) {
        const T *z = (const T *)rows->Z + k * ld + begin, *d = (const T *)rows->delta + k * ld + begin;
        for (ptrdiff_t i = 0; i < n; i += LANES)
            FN(store)(P + k * ld + i, step != 0 ? VOP(fma)(t, FN(load)(d + i), FN(load)(z + i)) : FN(load)(z + i));
    }
    for (ptrdiff_t i = 0; i < n; i++)
        ones[i] = 1;
    FN(cross_entropy_columns)(n, n_classes, P, ld, y, ones, losses, predictions);
    FN(transpose)(n_classes, n, P, ld, R, rows->R_ld);
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double weight = rows->weight ? rows->weight[begin + i] : 1.0;
        total += weight * losses[i];
        for (ptrdiff_t k = 0; rows->weight && k < n_classes; k++)
            R[i * rows->R_ld + k] *= (T)weight;
        P[y[i] * ld + i] += 1;
    }
    return total;
}

INLINE double FN(entropy_of)(double p)
{
    return p > 0 ? -p * log(p) : 0;
}

/* The weighted sum of the entropies of factor * ((1 - mix) p + mix * v) + (1 - factor) e_y, v one vector for all rows. */
static double FN(logit_entropy)(const logit_rows *rows, ptrdiff_t begin, ptrdiff_t n, double factor, double mix,
                                const double *v)
{
    const ptrdiff_t ld = rows->ld;
    const T *P = (const T *)rows->P + begin;
    const V of_p = FN(all)((T)(factor * (1 - mix))), least = FN(all)(SMALLEST_NORMAL);
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        V sum = {0};
        for (ptrdiff_t k = 0; k < rows->n_classes; k++) {
            const V a = of_p * FN(load)(P + k * ld + i) + FN(all)((T)(factor * mix * v[k]));
            const V term = a * FN(log)(FN(larger)(1 / FN(larger)(a, least), FN(all)(1)));
            sum += FN(select)(a > least, term, (V){0});
        }
        T lanes[LANES];
        FN(store)(lanes, sum);
        for (ptrdiff_t lane = 0; lane < LANES && i + lane < n; lane++) {
            const int64_t y = rows->y[begin + i + lane];
            const double weight = rows->weight ? rows->weight[begin + i + lane] : 1.0;
            const double a = factor * ((1 - mix) * P[y * ld + i + lane] + mix * v[y]);
            double entropy = lanes[lane];
            if (factor < 1) /* the label's own part is in no term yet */
                entropy += FN(entropy_of)(a + 1 - factor) - FN(entropy_of)(a);
            total += weight * entropy;
        }
    }
    return total;
}

/* Rows begin .. begin + n, after the classes `classes` have moved by `moved` (each ld apart): delta += moved, and
 * s = sum_l p_l delta_l. */
static void FN(join_moves)(const logit_rows *rows, ptrdiff_t begin, ptrdiff_t n, const int64_t *classes,
                           ptrdiff_t n_moved, const void *moved_, void *s_)
{
    T *s = (T *)s_ + begin;
    for (ptrdiff_t c = 0; c < n_moved; c++) {
        const T *moved = (const T *)moved_ + c * rows->ld + begin;
        const T *p = (const T *)rows->P + classes[c] * rows->ld + begin;
        T *delta = (T *)rows->delta + classes[c] * rows->ld + begin;
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            const V a = FN(load)(moved + i);
            FN(store)(delta + i, FN(load)(delta + i) + a);
            FN(store)(s + i, VOP(fma)(FN(load)(p + i), a, FN(load)(s + i)));
        }
    }
}

/* ---- coordinate descent ------------------------------------------------------------------------ */

/* How much a row's slope falls for each unit that its logit moves downhill, until that has passed 0 by 2: where a row is
 * far on the wrong side, wrong = 1 - p of its class (or p of another's), this is far more than p (1 - p). */
INLINE T FN(secant)(T wrong)
{
    const T right = 1 - wrong > (T)1e-30 ? 1 - wrong : (T)1e-30;
    return wrong / ((T)log((double)(wrong / right)) + 2);
}

/* Rows of a class: q[i] is the slope of the model at row i as the class stands, v[i] its curvature. Where lines are
 * sparse the two lie side by side, so that one cache miss brings both. */
INLINE void FN(prepare)(const class_model *m, const int is_sparse, T *q, T *v)
{
    const ptrdiff_t apart = is_sparse ? 2 : 1;
    const V half = FN(all)((T)0.5), two = FN(all)(2), least = FN(all)((T)1e-30), zero = {0};
    for (ptrdiff_t i = 0; i < m->n_rows; i += LANES) {
        const ptrdiff_t n = m->n_rows - i < LANES ? m->n_rows - i : LANES;
        const V p = FN(load)((const T *)m->p + i), delta = FN(load)((const T *)m->delta + i);
        const V s = FN(load)((const T *)m->s + i), share = FN(load)((const T *)m->share + i);
        const V rest = FN(larger)(1 - p, zero), own = p * rest;
        V most = own;
        if (m->is_far) /* rows of other classes; those of this one follow */
            most = FN(select)(p > half, p / (FN(log)(FN(larger)(p / FN(larger)(rest, least), half + half)) + two), own);
        /* what the other classes of the wave do meanwhile: with this the steps of all together gain what they say */
        const V others = FN(larger)(FN(load)((const T *)m->mass + i) - p, zero);
        const V slope = share * (most * delta - p * (s - p * delta)), curvature = share * (most + p * others);
        T slopes[LANES], curvatures[LANES];
        FN(store)(slopes, slope);
        FN(store)(curvatures, curvature);
        for (ptrdiff_t lane = 0; lane < n; lane++) {
            q[(i + lane) * apart] = slopes[lane];
            v[(i + lane) * apart] = curvatures[lane];
        }
    }
    if (!m->is_far)
        return;
    for (ptrdiff_t i = 0; i < m->n_rows; i++) {
        const T p = ((const T *)m->p)[i];
        if (m->y[i] != m->number || !(p < (T)0.5))
            continue;
        const T more = ((const T *)m->share)[i] * (FN(secant)(1 - p) - p * (1 - p));
        q[i * apart] += more * ((const T *)m->delta)[i];
        v[i * apart] += more;
    }
}

/* Of sparse lines the q of neighbouring rows lie `apart`. */
INLINE T FN(line_dot)(const class_model *m, const int is_sparse, const int apart, ptrdiff_t line, const T *q)
{
    T total = 0;
    if (is_sparse) {
        const ptrdiff_t end = (ptrdiff_t)m->lines->starts[line + 1];
        const int32_t *at = m->lines->at;
        const T *x = (const T *)m->lines->values;
        ptrdiff_t e = (ptrdiff_t)m->lines->starts[line];
        T sums[4] = {0, 0, 0, 0};
        for (; e + 4 <= end; e += 4) {
            sums[0] += x[e] * q[apart * (ptrdiff_t)at[e]];
            sums[1] += x[e + 1] * q[apart * (ptrdiff_t)at[e + 1]];
            sums[2] += x[e + 2] * q[apart * (ptrdiff_t)at[e + 2]];
            sums[3] += x[e + 3] * q[apart * (ptrdiff_t)at[e + 3]];
        }
        for (; e < end; e++)
            sums[0] += x[e] * q[apart * (ptrdiff_t)at[e]];
        return (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }
    const T *x = (const T *)m->lines->values + line * m->line_ld;
    V sum = {0}, chunk[2] = {{0}, {0}};
    for (ptrdiff_t begin = 0; begin < m->n_rows; begin += CHUNK * LANES) {
        const ptrdiff_t end = m->n_rows - begin < CHUNK * LANES ? m->n_rows : begin + CHUNK * LANES;
        chunk[0] = chunk[1] = (V){0};
        for (ptrdiff_t i = begin; i < end; i += 2 * LANES) { /* lines and rows are padded with 0 */
            chunk[0] = VOP(fma)(FN(load)(x + i), FN(load)(q + i), chunk[0]);
            chunk[1] = VOP(fma)(FN(load)(x + i + LANES), FN(load)(q + i + LANES), chunk[1]);
        }
        sum += chunk[0] + chunk[1];
    }
    total = FN(sum_lanes)(sum);
    return total;
}

INLINE void FN(line_add)(const class_model *m, const int is_sparse, ptrdiff_t line, T by, T *q, const T *v)
{
    if (is_sparse) {
        const int32_t *at = m->lines->at;
        const T *x = (const T *)m->lines->values;
        for (ptrdiff_t e = (ptrdiff_t)m->lines->starts[line]; e < (ptrdiff_t)m->lines->starts[line + 1]; e++) {
            T *pair = q + 2 * (ptrdiff_t)at[e];
            pair[0] += by * x[e] * pair[1];
        }
        return;
    }
    const T *x = (const T *)m->lines->values + line * m->line_ld;
    const V step = FN(all)(by);
    for (ptrdiff_t i = 0; i < m->n_rows; i += LANES)
        FN(store)(q + i, VOP(fma)(step * FN(load)(x + i), FN(load)(v + i), FN(load)(q + i)));
}

/* sum_i v[i] x[i]^2; entries of one row that come several times add up first. */
INLINE double FN(line_curvature)(const class_model *m, const int is_sparse, ptrdiff_t line, const T *v)
{
    double total = 0;
    if (is_sparse) {
        const int32_t *at = m->lines->at;
        const T *values = (const T *)m->lines->values;
        const ptrdiff_t end = (ptrdiff_t)m->lines->starts[line + 1];
        for (ptrdiff_t e = (ptrdiff_t)m->lines->starts[line]; e < end; e++) {
            double x = values[e];
            while (e + 1 < end && at[e + 1] == at[e])
                x += values[++e];
            total += x * x * v[2 * (ptrdiff_t)at[e]];
        }
        return total;
    }
    const T *x = (const T *)m->lines->values + line * m->line_ld;
    for (ptrdiff_t begin = 0; begin < m->n_rows; begin += CHUNK * LANES) {
        const ptrdiff_t end = m->n_rows - begin < CHUNK * LANES ? m->n_rows : begin + CHUNK * LANES;
        V sum = {0};
        for (ptrdiff_t i = begin; i < end; i += LANES) {
            const V a = FN(load)(x + i);
            sum = VOP(fma)(a * a, FN(load)(v + i), sum);
        }
        total += FN(sum_lanes)(sum);
    }
    return total;
}

/* moved += by * line */
INLINE void FN(line_move)(const class_model *m, const int is_sparse, ptrdiff_t line, T by, T *moved)
{
    if (is_sparse) {
        for (ptrdiff_t e = (ptrdiff_t)m->lines->starts[line]; e < (ptrdiff_t)m->lines->starts[line + 1]; e++)
            moved[m->lines->at[e]] += by * ((const T *)m->lines->values)[e];
        return;
    }
    const T *x = (const T *)m->lines->values + line * m->line_ld;
    const V step = FN(all)(by);
    for (ptrdiff_t i = 0; i < m->n_rows; i += LANES)
        FN(store)(moved + i, VOP(fma)(step, FN(load)(x + i), FN(load)(moved + i)));
}

/* Where the model of one coordinate has its minimum, within its box. */
INLINE double FN(least)(const class_model *m, ptrdiff_t e, double slope, double curvature)
{
    const double u = ((const T *)m->u)[e], from = ((const T *)m->start)[e], room = ((const T *)m->room)[e];
    const double w = u - (slope + m->l2 * u) / curvature, threshold = m->l1 / curvature;
    double to = w > threshold ? w - threshold : w < -threshold ? w + threshold : 0;
    to = to > from + room ? from + room : to;
    return to < from - room ? from - room : to;
}

INLINE double FN(descend_on)(const class_model *m, const int is_sparse)
{
    const ptrdiff_t n = m->n_rows, apart = is_sparse ? 2 : 1, end = (n + 2 * LANES - 1) / (2 * LANES) * 2 * LANES;
    T *q = (T *)m->scratch, *v = is_sparse ? q + 1 : q + end, *moved = (T *)m->moved, *u = (T *)m->u;
    T *curvature = (T *)m->curvature, *before = (T *)m->before;
    double gain = 0, bias_curvature = 0, bias_moved = 0;
    FN(prepare)(m, is_sparse, q, v);
    for (ptrdiff_t i = n; !is_sparse && i < end; i++)
        q[i] = v[i] = 0;
    memcpy(before, u, (size_t)m->n_coordinates * sizeof(T));
    if (m->bias)
        for (ptrdiff_t i = 0; i < n; i++)
            bias_curvature += v[i * apart];
    for (int round = 0; round < m->n_rounds; round++) {
        if (m->bias && bias_curvature > 0) {
            double slope = m->bias_gradient;
            for (ptrdiff_t i = 0; i < n; i++)
                slope += q[i * apart];
            double to = *m->bias - slope / bias_curvature;
            to = to > m->bias_room ? m->bias_room : to < -m->bias_room ? -m->bias_room : to;
            const T by = (T)(to - *m->bias);
            *m->bias += by;
            bias_moved += by;
            gain += bias_curvature * by * by;
            for (ptrdiff_t i = 0; i < n; i++)
                q[i * apart] += by * v[i * apart];
        }
        for (ptrdiff_t e = 0; e < m->n_coordinates; e++) {
            if (round > 0 && u[e] == 0)
                continue;
            const ptrdiff_t line = m->line_of[e];
            if (curvature[e] < 0)
                curvature[e] = (T)(FN(line_curvature)(m, is_sparse, line, v) + m->l2);
            const double slope = ((const T *)m->gradient)[e] + FN(line_dot)(m, is_sparse, 2, line, q);
            /* without any curvature the slope leads to the end of the box, or to 0 */
            const double h = curvature[e] > SMALLEST_NORMAL ? curvature[e] : SMALLEST_NORMAL;
            const T to = (T)FN(least)(m, e, slope, h), by = to - u[e];
            if (by != 0) {
                u[e] = to;
                gain += h * by * by;
                FN(line_add)(m, is_sparse, line, by, q, v);
            }
        }
    }
    for (ptrdiff_t i = 0; i < end; i++)
        moved[i] = i < n ? (T)bias_moved : 0;
    for (ptrdiff_t e = 0; e < m->n_coordinates; e++)
        if (u[e] != before[e])
            FN(line_move)(m, is_sparse, m->line_of[e], u[e] - before[e], moved);
    return gain / 2;
}

static double FN(descend)(const class_model *m)
{
    return m->lines->starts ? FN(descend_on)(m, 1) : FN(descend_on)(m, 0);
}

/* ---- products with the model's Hessian --------------------------------------------------------- */

INLINE void FN(follow_on)(const class_model *m, const int is_sparse)
{
    const ptrdiff_t n = m->n_rows, end = (n + 2 * LANES - 1) / (2 * LANES) * 2 * LANES;
    const T by = m->bias ? (T)*m->bias : 0;
    T *moved = (T *)m->moved;
    for (ptrdiff_t i = 0; i < end; i++)
        moved[i] = i < n ? by : 0;
    for (ptrdiff_t e = 0; e < m->n_coordinates; e++)
        if (((const T *)m->u)[e] != 0)
            FN(line_move)(m, is_sparse, m->line_of[e], ((const T *)m->u)[e], moved);
}

/* moved = what a step u of the coordinates and `bias` of the intercept add to the class's logits. */
static void FN(follow)(const class_model *m)
{
    if (m->lines->starts)
        FN(follow_on)(m, 1);
    else
        FN(follow_on)(m, 0);
}

/* s[i] = sum_k p_ik delta_ik of rows begin .. begin + n */
static void FN(couple)(const logit_rows *rows, ptrdiff_t begin, ptrdiff_t n, const void *delta_, void *s_)
{
    const T *P = (const T *)rows->P + begin, *delta = (const T *)delta_ + begin;
    T *s = (T *)s_ + begin;
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        V sum = {0};
        for (ptrdiff_t k = 0; k < rows->n_classes; k++)
            sum = VOP(fma)(FN(load)(P + k * rows->ld + i), FN(load)(delta + k * rows->ld + i), sum);
        FN(store)(s + i, sum);
    }
}

INLINE void FN(slopes_on)(const class_model *m, const int is_sparse)
{
    const ptrdiff_t n = m->n_rows, end = (n + 2 * LANES - 1) / (2 * LANES) * 2 * LANES;
    const T *p = (const T *)m->p, *delta = (const T *)m->delta, *s = (const T *)m->s, *share = (const T *)m->share;
    T *q = (T *)m->scratch;
    double total = 0;
    for (ptrdiff_t begin = 0; begin < end; begin += CHUNK * LANES) {
        const ptrdiff_t stop = end - begin < CHUNK * LANES ? end : begin + CHUNK * LANES;
        V sum = {0};
        for (ptrdiff_t i = begin; i < stop; i += LANES) {
            const V here = FN(load)(share + i) * FN(load)(p + i) * (FN(load)(delta + i) - FN(load)(s + i));
            FN(store)(q + i, here);
            sum += here;
        }
        total += FN(sum_lanes)(sum);
    }
    for (ptrdiff_t e = 0; e < m->n_coordinates; e++)
        ((T *)m->u)[e] = FN(line_dot)(m, is_sparse, 1, m->line_of[e], q);
    if (m->bias)
        *m->bias = total;
}

/* u, and `bias`, become the slopes of the model's smooth part that delta adds: the Hessian times what led to delta. */
static void FN(slopes)(const class_model *m)
{
    if (m->lines->starts)
        FN(slopes_on)(m, 1);
    else
        FN(slopes_on)(m, 0);
}

/* ---- which slopes are large -------------------------------------------------------------------- */

/* Of features begin .. end: the largest |G| of the classes that count, and the largest |R| of
 * R = (1 - mix) (G - left[j] c) + mix * null. G, null and counts, c are (n_features, n_classes), (n_classes,); counts are
 * 0 or 1. Cost: G and null are read once. */
static void FN(largest_slopes)(const slope_scan *scan, ptrdiff_t begin, ptrdiff_t end)
{
    const ptrdiff_t K = scan->n_classes;
    const T *counts = (const T *)scan->counts, *c = (const T *)scan->c;
    for (ptrdiff_t j = begin; j < end; j++) {
        const T *G = (const T *)scan->G + j * K, *null = scan->null ? (const T *)scan->null + j * K : NULL;
        const V left = FN(all)(scan->left ? ((const T *)scan->left)[j] : 0);
        const V mix = FN(all)((T)scan->mix), rest = FN(all)((T)(1 - scan->mix));
        V most = {0}, most_dual = {0};
        for (ptrdiff_t k = 0; k < K; k += LANES) {
            const ptrdiff_t n = K - k < LANES ? K - k : LANES;
            const V weight = FN(load_first)(counts + k, n, 0), g = FN(load_first)(G + k, n, 0);
            const V of_class = weight * g;
            most = FN(larger)(FN(larger)(of_class, -of_class), most);
            if (null) {
                const V r = weight * (rest * (g - left * FN(load_first)(c + k, n, 0)) + mix * FN(load_first)(null + k, n, 0));
                most_dual = FN(larger)(FN(larger)(r, -r), most_dual);
            }
        }
        ((T *)scan->most)[j] = FN(largest_lane)(most);
        ((T *)scan->most_dual)[j] = null ? FN(largest_lane)(most_dual) : ((T *)scan->most)[j];
    }
}
