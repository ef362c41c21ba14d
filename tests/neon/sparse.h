/* Sparse rows: sums of lines of a matrix, and the steps of SGD for the lines that a batch has. All are exact.
 *
 * Whatever type the entries are stored as, a kernel gets them as numbers of the compute type. */

enum { PLACES = 23 };

/* lines of up to `longest` entries, a third of them empty, each entry at one of n_places */
static sparse_lines random_lines(ptrdiff_t n_lines, int n_places, int longest)
{
    int64_t *starts = take(n_lines + 1, sizeof *starts);
    starts[0] = uniform(4); /* the entries before belong to others */
    for (ptrdiff_t i = 0; i < n_lines; i++)
        starts[i + 1] = starts[i] + (uniform(3) ? longest - uniform(longest + 1) / 2 : 0);
    int32_t *at = take(starts[n_lines], sizeof *at);
    for (ptrdiff_t e = 0; e < starts[n_lines]; e++)
        at[e] = uniform(n_places);
    return (sparse_lines){.starts = starts, .at = at, .values = eighths(starts[n_lines]), .n_lines = n_lines};
}

static void test_sparse_product(ptrdiff_t n_lines, int longest, ptrdiff_t classes)
{
    const sparse_lines lines = random_lines(n_lines, PLACES, longest);
    const ptrdiff_t begin = n_lines / 3, ld = classes + 3 * uniform(2), n_sums = (n_lines - begin) * ld;
    const void *M = eighths(PLACES * ld), *bias = eighths(classes), *before = eighths(n_sums);
    void *out[2] = {reals(n_sums), reals(n_sums)};
    for (int variant = 0; variant < 8; variant++) {
        for (int t = 0; t < 2; t++) {
            const sparse_sink sink = {.out = memcpy(out[t], before, (size_t)(n_sums * size)), .ld = ld,
                                      .first_line = begin, .bias = variant & 1 ? bias : NULL, .scale = 0.5,
                                      .adds = variant & 2};
            tables[t]->sparse_product(&lines, begin, n_lines, classes, M, ld, variant & 4, &sink);
        }
        check_all("sparse_product", out[0], out[1], n_sums, 0, 0);
    }
    release();
}

static void test_sparse_updates(ptrdiff_t n_lines, ptrdiff_t classes, int variant)
{
    const ptrdiff_t ld = classes + variant % 2, n_weights = 2 * n_lines * ld;
    void *W[2] = {eighths(n_weights)}, *velocity[2] = {eighths(n_weights)};
    const void *gradient = eighths(n_lines * ld);
    int32_t *at = take(n_lines, sizeof *at), *rested = take(n_lines, sizeof *rested);
    for (ptrdiff_t i = 0; i < n_lines; i++) /* no line comes twice */
        at[i] = (int32_t)(2 * (n_lines - 1 - i) + uniform(2)), rested[i] = uniform(3);
    static const double special[] = {NAN, INFINITY, -INFINITY, 0.25, -0.25};
    for (int i = 0; i < 5; i++)
        put(W[0], uniform((int)n_weights), special[i]), put(velocity[0], uniform((int)n_weights), special[i]);
    W[1] = copy(W[0], n_weights), velocity[1] = copy(velocity[0], n_weights);
    const sparse_rests rests[3] = {{1, 0, 0, 1, 0}, {0.5, -0.25, 0.25, 0.5, variant & 8 ? 0.125 : 0}, {1, -1, 0, 0.5, 0.25}};
    for (int t = 0; t < 2; t++) {
        const gradient_sink sink = {.W = W[t], .velocity = variant & 2 ? velocity[t] : NULL, .first = 1, .last = 1,
                                    .scale = 0.5, .learning_rate = 0.5, .momentum = 0.5, .nesterov = variant & 4,
                                    .weight_decay = variant & 16 ? 0.25 : 0};
        tables[t]->sparse_rest(n_lines, at, rested, rests, classes, W[t], sink.velocity, ld);
        tables[t]->sparse_step(n_lines, at, classes, gradient, ld, ld, &sink, variant & 8 ? 0.25 : 0);
    }
    check_all("W", W[0], W[1], n_weights, 0, 0);
    check_all("velocity", velocity[0], velocity[1], n_weights, 0, 0);
    release();
}

/* the classes of several heads lie side by side, and count as so many */
static void test_sparse(void)
{
    static const int classes[18] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 130, 300};
    static const int longest[9] = {0, 1, 2, 15, 17, 40, 256, 257, 600};
    int turn = 0;
    for (int k = 0; k < 18; k++) {
        for (int e = 0; e < 9; e++) {
            snprintf(what, sizeof what, "lines of up to %d entries, %d classes", longest[e], classes[k]);
            test_sparse_product(1 + turn++ % 20, longest[e], classes[k]);
        }
        for (int variant = 0; variant < 32; variant++) {
            snprintf(what, sizeof what, "updates of sparse rows, %d classes, variant %d", classes[k], variant);
            test_sparse_updates(1 + turn++ % 13, classes[k], variant);
        }
    }
}
