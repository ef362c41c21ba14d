/* What the solvers call: vectors of lines, rows by their classes, and the models of coordinate descent.
 *
 * Sums are exact, but where there is a quotient, an exp or a log: those are held to some roundings. */

/* columns of n multiples of 1/8, ld apart: 0 beyond n, and nowhere below `least` */
static void *columns(ptrdiff_t n_columns, ptrdiff_t n, ptrdiff_t ld, double least, double factor)
{
    void *p = eighths(n_columns * ld);
    for (ptrdiff_t i = 0; i < n_columns * ld; i++)
        put(p, i, i % ld < n ? factor * fmax(at(p, i), least) : 0);
    return p;
}

static void test_lines(ptrdiff_t n_lines, ptrdiff_t n)
{
    const ptrdiff_t n_all = n_lines * n;
    void *x = eighths(n_all), *y[2] = {eighths(n_all)}, *diagonal = columns(1, n_all, n_all, 0, 1), *out[2], *sums[2];
    const void *mean = eighths(n_lines), *bias = eighths(n);
    sums[0] = eighths(n), sums[1] = copy(sums[0], n), y[1] = copy(y[0], n_all);
    for (ptrdiff_t k = 0; n_lines > 1 && k < n; k++) /* nothing of this line counts */
        put(diagonal, k, INFINITY);
    for (int t = 0; t < 2; t++) {
        tables[t]->add_multiple(n_all, 0.5, x, y[t]);
        tables[t]->sum_lines(n_lines, n, mean, x, sums[t]);
        tables[t]->solve_lines(n_lines, n, diagonal, 0.5, x, out[t] = reals(n_all));
    }
    check_all("add_multiple", y[0], y[1], n_all, 0, 0);
    check_all("sum_lines", sums[0], sums[1], n, 0, 0);
    check_all("solve_lines", out[0], out[1], n_all, 16, 4);
    check("product", 0, tables[0]->product(n_all, x, y[0]), tables[1]->product(n_all, x, y[0]), 0, 0);
    for (int centred = 0; centred < 2; centred++) {
        const void *of_line = centred ? mean : NULL;
        check("largest_of_lines", centred, tables[0]->largest_of_lines(n_lines, n, of_line, bias, x),
              tables[1]->largest_of_lines(n_lines, n, of_line, bias, x), 0, 0);
        for (int t = 0; t < 2; t++)
            tables[t]->finish_lines(n_lines, n, 0.5, of_line, bias, 0.25, x, memcpy(out[t], y[0], (size_t)(n_all * size)));
        check_all("finish_lines", out[0], out[1], n_all, 0, 0);
    }
    release();
}

static void test_largest_slopes(ptrdiff_t n_features, ptrdiff_t classes, int variant)
{
    const ptrdiff_t n_slopes = n_features * classes;
    slope_scan scan = {.n_classes = classes, .G = eighths(n_slopes), .null = variant & 1 ? eighths(n_slopes) : NULL,
                       .left = variant & 2 ? eighths(n_features) : NULL, .c = eighths(classes), .mix = 0.25};
    void *counts = reals(classes), *most[2], *most_dual[2];
    for (ptrdiff_t k = 0; k < classes; k++)
        put(counts, k, uniform(3) > 0);
    scan.counts = counts;
    for (int t = 0; t < 2; t++) {
        scan.most = most[t] = eighths(n_features), scan.most_dual = most_dual[t] = eighths(n_features);
        tables[t]->largest_slopes(&scan, 0, n_features / 2);
        tables[t]->largest_slopes(&scan, n_features / 2, n_features);
    }
    check_all("most", most[0], most[1], n_features, 0, 0);
    check_all("most_dual", most_dual[0], most_dual[1], n_features, 0, 0);
    release();
}

/* ---- rows by their classes ---- */

static void test_moves(logit_rows rows[2], ptrdiff_t n_moved)
{
    const ptrdiff_t n = rows->n_rows, K = rows->n_classes, ld = rows->ld;
    const void *moved = columns(n_moved, n, ld, -2, 1);
    void *s[2] = {columns(1, n, ld, -2, 1)}, *coupled[2];
    int64_t *classes = take(n_moved, 8);
    s[1] = copy(s[0], ld);
    for (ptrdiff_t c = 0; c < n_moved; c++)
        classes[c] = (2 * c + 1) % K;
    for (int t = 0; t < 2; t++) {
        tables[t]->join_moves(&rows[t], 0, n, classes, n_moved, moved, s[t]);
        tables[t]->couple(&rows[t], 0, n, rows[t].delta, coupled[t] = columns(1, n, ld, -2, 1));
    }
    check_all("delta", rows[0].delta, rows[1].delta, K * ld, 0, 0);
    check_all("s", s[0], s[1], n, 0, 0);
    check_all("coupled", coupled[0], coupled[1], n, 0, 0);
}

static void test_logit_rows(ptrdiff_t n, ptrdiff_t classes)
{
    const ptrdiff_t ld = (n + LOGIT_ROWS - 1) / LOGIT_ROWS * LOGIT_ROWS, n_logits = classes * ld;
    int64_t *y = take(n, 8);
    double *weight = take(n, 8), *v = take(classes, 8), found[2];
    logit_rows rows[2] = {{.n_rows = n, .n_classes = classes, .ld = ld, .y = y, .weight = uniform(2) ? weight : NULL,
                           .R_ld = classes + uniform(2), .Z = columns(classes, n, ld, -2, 8),
                           .delta = columns(classes, n, ld, -2, 1), .P = columns(classes, n, ld, 0, 1)}};
    const ptrdiff_t n_R = n * rows->R_ld;
    rows->R = eighths(n_R), rows[1] = rows[0];
    rows[1].delta = copy(rows->delta, n_logits), rows[1].P = copy(rows->P, n_logits), rows[1].R = copy(rows->R, n_R);
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = uniform((int)classes), weight[i] = uniform(9) / 4.0;
    for (ptrdiff_t k = 0; k < classes; k++)
        v[k] = 1 / (double)classes;
    test_moves(rows, (classes + 1) / 2);
    for (ptrdiff_t begin = 0; begin < n; begin += LOGIT_ROWS)
        for (int way = 0; way < 4; way++) {
            const ptrdiff_t m = n - begin < LOGIT_ROWS ? n - begin : LOGIT_ROWS;
            for (int t = 0; t < 2; t++)
                found[t] = tables[t]->logit_step(&rows[t], begin, m, way % 2 ? 0.5 : 0);
            check("logit_step", way, found[0], found[1], 4, (double)m);
            for (ptrdiff_t k = 0, p = begin; k < classes; k++, p += ld)
                check_all("P", (char *)rows[0].P + p * size, (char *)rows[1].P + p * size, m, 32, 0.5);
            check_all("R", rows[0].R, rows[1].R, n_R, 32, 1);
            for (int t = 0; t < 2; t++) /* of the same probabilities */
                found[t] = tables[t]->logit_entropy(&rows[1], begin, m, way % 2 ? 0.75 : 1, way / 2 ? 0.25 : 0, v);
            check("logit_entropy", way, found[0], found[1], 4, (double)m);
        }
    release();
}

/* ---- the model of one class ---- */

enum { MODEL_LINES = 7, COORDINATES = 5 };

static class_model random_model(const sparse_lines *lines, ptrdiff_t n, ptrdiff_t ld)
{
    int32_t *line_of = take(COORDINATES, sizeof *line_of);
    int64_t *y = take(n, 8);
    for (int e = 0; e < COORDINATES; e++)
        line_of[e] = (3 * e + 1) % MODEL_LINES;
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = uniform(3);
    void *p = columns(1, n, ld, 0, 0.5), *mass = columns(1, n, ld, 0, 0.5); /* up to 1 */
    for (ptrdiff_t i = 0; i < n; i++)
        put(mass, i, fmax(at(p, i), at(mass, i)));
    return (class_model){
        .lines = lines, .line_ld = ld, .n_rows = n, .n_coordinates = COORDINATES, .line_of = line_of, .y = y, .number = 1,
        .start = eighths(COORDINATES), .gradient = eighths(COORDINATES), .room = columns(1, COORDINATES, COORDINATES, 0.5, 1),
        .l1 = 0.125, .l2 = 0.25, .p = p, .mass = mass, .delta = columns(1, n, ld, -2, 1), .s = columns(1, n, ld, -2, 1),
        .share = columns(1, n, ld, 0, 0.5), .bias_gradient = 0.5, .bias_room = 0.75, .n_rounds = 3};
}

static void test_model(ptrdiff_t n, int is_sparse, int variant)
{
    const ptrdiff_t ld = (n + LD - 1) / LD * LD;
    sparse_lines lines = {.n_lines = MODEL_LINES};
    if (is_sparse)
        lines = random_lines(MODEL_LINES, (int)n, (int)(n < 300 ? n : 300));
    else
        lines.values = columns(MODEL_LINES, n, ld, -2, 1);
    class_model m = random_model(&lines, n, ld);
    m.is_far = variant & 1;
    double bias[2] = {0.25, 0.25}, gain[2];
    void *u[2], *curvature[2], *moved[2], *unknown = reals(COORDINATES);
    m.before = reals(COORDINATES), m.scratch = reals(2 * ld);
    for (int e = 0; e < COORDINATES; e++)
        put(unknown, e, -1);
    for (int t = 0; t < 2; t++) {
        m.u = u[t] = copy(m.start, COORDINATES), m.curvature = curvature[t] = copy(unknown, COORDINATES);
        m.moved = moved[t] = reals(ld), m.bias = variant & 2 ? &bias[t] : NULL;
        gain[t] = tables[t]->descend(&m);
    }
    check("gain", 0, gain[0], gain[1], 64, 1);
    check("bias", 0, bias[0], bias[1], 64, 1);
    check_all("u", u[0], u[1], COORDINATES, 64, 1);
    check_all("curvature", curvature[0], curvature[1], COORDINATES, 64, 1);
    check_all("moved", moved[0], moved[1], n, 64, 4);
    bias[0] = bias[1] = 0.25;
    for (int t = 0; t < 2; t++) {
        m.u = memcpy(u[t], m.start, (size_t)(COORDINATES * size)), m.moved = moved[t];
        m.bias = variant & 2 ? &bias[t] : NULL;
        tables[t]->follow(&m);
        tables[t]->slopes(&m);
    }
    check_all("followed", moved[0], moved[1], n, 0, 0);
    check_all("slopes", u[0], u[1], COORDINATES, 0, 0);
    check("slope of the bias", 0, bias[0], bias[1], 0, 0);
    release();
}

static void test_solver(void)
{
    static const int classes[13] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 33, 65, 300};
    static const int rows[8] = {1, 3, 8, 31, 65, 128, 300, 1100};
    for (int k = 0; k < 13; k++)
        for (int n = 1; n < 300; n = 3 * n + 1) {
            snprintf(what, sizeof what, "%d lines of %d classes", n, classes[k]);
            test_lines(n, classes[k]);
            for (int variant = 0; variant < 4; variant++)
                test_largest_slopes(n, classes[k], variant);
        }
    for (int r = 0; r < 8; r++) {
        for (int k = 0; k < 11; k++) {
            snprintf(what, sizeof what, "logits of %d rows, %d classes", rows[r], classes[k]);
            test_logit_rows(rows[r], classes[k]);
        }
        for (int variant = 0; variant < 8; variant++) {
            snprintf(what, sizeof what, "model of %d rows, variant %d", rows[r], variant);
            test_model(rows[r], variant & 4, variant);
        }
    }
}
