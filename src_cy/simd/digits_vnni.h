/* Products of digits by vectors of bytes: 64 bytes times 64 bytes, four at a time into 16 integers of 32 bits, in the
 * time of 16 multiply-adds of float. With three digits a third more than floats can do, and nothing to convert. */

enum { ROWS_AHEAD = 8 }; /* the first product fetches rows of this block, so many ahead of those that it multiplies */
#define DIGITS_BY .speed = 1.25, .forward_fetches = FETCH_NONE, .row_bytes = no_row_bytes

INLINE int stage_rows(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t n_features, void *staged)
{
    (void)rows, (void)n_rows, (void)n_features, (void)staged;
    return 1;
}

/* Row i, or the last in its stead: what the row is multiplied with is 0, or its logits are dropped. */
INLINE const char *row_or_last(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t i)
{
    return rows[i < n_rows ? i : n_rows - 1];
}

/* Of the second product: classes at once, and their places; rows between two fetches. */
enum { CLASSES = 2, AT_ONCE = 3 * CLASSES, FETCHING = 16 };

INLINE __m512i four_bytes(const char *p, size_t n)
{
    int32_t bytes = 0;
    memcpy(&bytes, p, n);
    return _mm512_set1_epi32(bytes);
}

INLINE void multiply_rows_of(const int n_tiles, const void *const *rows, ptrdiff_t n_rows, const char *digits,
                             ptrdiff_t n_features, __m512i sums[2][PLACES], upcoming *next, int n_lines)
{
    enum { ROWS = 8 };
    for (int r = 0; r < 32; r += ROWS) {
        __m512i acc[ROWS][2];
        const char *row[ROWS];
        for (int i = 0; i < ROWS; i++) {
            row[i] = row_or_last(rows, n_rows, r + i);
            for (int t = 0; t < n_tiles; t++) /* an initializer would be memory first */
                acc[i][t] = _mm512_setzero_si512();
        }
#define MULTIPLY(j, n)                                                                                 \
    for (int i = 0; i < ROWS; i++) {                                                                   \
        const __m512i x = four_bytes(row[i] + (j), n);                                                 \
        for (int t = 0; t < n_tiles; t++)                                                              \
            acc[i][t] = _mm512_dpbusd_epi32(acc[i][t], x, _mm512_load_si512(digits + 32 * (j) + 64 * t)); \
    }
        const ptrdiff_t whole = n_features / 4 * 4;
        for (ptrdiff_t step = 0; step < whole; step += STEP) {
            const ptrdiff_t end = whole - step < STEP ? whole : step + STEP;
            fetch_lines(next, r == 0 ? n_lines - n_lines / 4 * 3 : n_lines / 4);
            for (ptrdiff_t j = step; j < end; j += 4) {
                MULTIPLY(j, 4)
            }
        }
        if (whole < n_features) {
            MULTIPLY(whole, (size_t)(n_features - whole))
        }
#undef MULTIPLY
        for (int i = 0; i < ROWS; i++)
            for (int t = 0; t < n_tiles; t++)
                sums[r / 16][16 * t + r % 16 + i] = acc[i][t];
    }
}

/* sums[half][16 t + r][p]: row 16 half + r of 32 times place 16 t + p; `next` is fetched meanwhile */
INLINE void multiply_rows(const int in_place, const void *const *rows, ptrdiff_t n_rows, const char *staged,
                          ptrdiff_t stride, const char *digits, ptrdiff_t n_features, int n_classes,
                          __m512i sums[2][PLACES], upcoming *next, int n_lines)
{
    (void)in_place, (void)staged, (void)stride;
    if (3 * n_classes > 16)
        multiply_rows_of(2, rows, n_rows, digits, n_features, sums, next, n_lines);
    else
        multiply_rows_of(1, rows, n_rows, digits, n_features, sums, next, n_lines);
}

/* As multiply_panel, for the two classes from c on. If `fresh` (for the first two), the panel is made on the way: so
 * bytes of X come from L2, and are shuffled, while others are multiplied. */
INLINE void multiply_classes(const int fresh, const void *const *rows, ptrdiff_t n_rows, ptrdiff_t j, ptrdiff_t n,
                             char *panel, const char *digits, int c, __m512i sums[4][PLACES], upcoming *next,
                             int n_lines)
{
    const __mmask64 mask = n < STEP ? ((__mmask64)1 << n) - 1 : (__mmask64)-1;
    const void *last[4]; /* chosen before the loop: an address that waits for a choice comes too late */
    for (int r = 0; r < 4; r++)
        last[r] = row_or_last(rows, n_rows, (n_rows - 1) / 4 * 4 + r);
    __m512i acc[4][AT_ONCE];
    for (int t = 0; t < 4; t++)
        for (int p = 0; p < AT_ONCE; p++)
            acc[t][p] = _mm512_setzero_si512();
    for (ptrdiff_t i = 0; i < n_rows; i += 4) {
        if (i % FETCHING == 0)
            fetch_lines(next, n_lines);
        char *factors = panel + i / STEP * 4 * TILE_BYTES + i % STEP * 16;
        const char *places = digits + i / STEP * 2 * TILE_BYTES + 3 * c * STEP + i % STEP;
        __m512i x[4];
        if (fresh) {
            const void *const *four = i + 4 <= n_rows ? rows + i : last;
            for (int r = 0; r < 4; r++)
                x[r] = _mm512_maskz_loadu_epi8(mask, (const char *)four[r] + j);
            interleave(x, factors);
        } else {
            for (int t = 0; t < 4; t++)
                x[t] = _mm512_load_si512(factors + t * TILE_BYTES);
        }
        for (int p = 0; p < AT_ONCE; p++) {
            const __m512i d = four_bytes(places + p * STEP, 4);
            for (int t = 0; t < 4; t++)
                acc[t][p] = _mm512_dpbusd_epi32(acc[t][p], x[t], d);
        }
    }
    for (int t = 0; t < 4; t++)
        for (int p = 0; p < AT_ONCE; p++)
            sums[t][3 * c + p] = acc[t][p];
}

/* sums[t][p]: place p times the 16 features of tile t of the panel, over the rows. For the first group of classes
 * (`fresh`), the panel is first filled: n features of the rows from j on, and zeros. `next` is fetched meanwhile. */
INLINE void multiply_panel(const int fresh, const void *const *rows, ptrdiff_t n_rows, const char *staged,
                           ptrdiff_t stride, ptrdiff_t j, ptrdiff_t n, char *panel, const char *digits, int n_classes,
                           __m512i sums[4][PLACES], upcoming *next, int n_lines)
{
    const int times = (n_classes + CLASSES - 1) / CLASSES * (STEP / FETCHING), each = (n_lines + times - 1) / times;
    (void)staged, (void)stride;
    for (int c = 0; c < n_classes; c += CLASSES)
        if (fresh && c == 0)
            multiply_classes(1, rows, n_rows, j, n, panel, digits, c, sums, next, each);
        else
            multiply_classes(0, rows, n_rows, j, n, panel, digits, c, sums, next, each);
}
