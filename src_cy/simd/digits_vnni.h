/* Products of digits by vectors of bytes: 64 bytes times 64 bytes, four at a time into 16 integers of 32 bits, in the
 * time of 16 multiply-adds of float. With three digits a third more than floats can do, and nothing to convert. */

enum { STAGED_ROWS = 32 }; /* while they are multiplied, the next are fetched */
#define DIGITS_PAY .speed = 1.4, .fetches_in_forward = 0

static void digits_open(void)
{
}

static void digits_close(void)
{
}

INLINE __m512i four_bytes(const char *p)
{
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return _mm512_set1_epi32(bytes);
}

INLINE void multiply_rows_of(const int n_tiles, const char *rows, ptrdiff_t stride, const char *digits,
                             ptrdiff_t n_features, __m512i sums[2][PLACES], upcoming *next, int n_lines)
{
    enum { ROWS = 8 };
    for (int r = 0; r < 32; r += ROWS) {
        __m512i acc[ROWS][2] = {{{0}}};
        for (ptrdiff_t j = 0; j < n_features; j += 4) {
            __m512i d[2];
            for (int t = 0; t < n_tiles; t++)
                d[t] = _mm512_load_si512(digits + 32 * j + 64 * t);
            if (j % STEP == 0)
                fetch_lines(next, r == 0 ? n_lines - n_lines / 4 * 3 : n_lines / 4);
            for (int i = 0; i < ROWS; i++) {
                const __m512i x = four_bytes(rows + (r + i) * stride + j);
                for (int t = 0; t < n_tiles; t++)
                    acc[i][t] = _mm512_dpbusd_epi32(acc[i][t], x, d[t]);
            }
        }
        for (int i = 0; i < ROWS; i++)
            for (int t = 0; t < n_tiles; t++)
                sums[r / 16][16 * t + r % 16 + i] = acc[i][t];
    }
}

/* sums[half][16 t + r][p]: row 16 half + r of 32 times place 16 t + p */
INLINE void multiply_rows(const char *rows, ptrdiff_t stride, const char *digits, ptrdiff_t n_features, int n_classes,
                          __m512i sums[2][PLACES], int in_place, upcoming *next, int n_lines)
{
    (void)in_place;
    if (3 * n_classes > 16)
        multiply_rows_of(2, rows, stride, digits, n_features, sums, next, n_lines);
    else
        multiply_rows_of(1, rows, stride, digits, n_features, sums, next, n_lines);
}

/* sums[t][p]: place p times features 16 t .. 16 t + 15 of the strip; `next` is fetched meanwhile */
INLINE void multiply_strip(const char *digits, const char *strip, ptrdiff_t steps, int n_classes,
                           __m512i sums[4][PLACES], upcoming *next, int n_lines)
{
    enum { CLASSES = 2, AT_ONCE = 3 * CLASSES };
    for (int c = 0; c < n_classes; c += CLASSES) {
        __m512i acc[4][AT_ONCE] = {{{0}}};
        for (ptrdiff_t s = 0; s < steps; s++) {
            for (int i = 0; i < STEP; i += 4) {
                __m512i x[4];
                for (int t = 0; t < 4; t++)
                    x[t] = _mm512_load_si512(strip + (4 * s + t) * TILE_BYTES + 16 * i);
                for (int p = 0; p < AT_ONCE; p++) {
                    const __m512i d = four_bytes(digits + 2 * s * TILE_BYTES + (3 * c + p) * STEP + i);
                    for (int t = 0; t < 4; t++)
                        acc[t][p] = _mm512_dpbusd_epi32(acc[t][p], x[t], d);
                }
            }
            if (c == 0)
                fetch_lines(next, n_lines);
        }
        for (int t = 0; t < 4; t++)
            for (int p = 0; p < AT_ONCE; p++)
                sums[t][3 * c + p] = acc[t][p];
    }
}
