/* Products of digits by the tile unit: 16 x 64 bytes times 64 x 16 into 16 x 16 integers of 32 bits in the time of
 * 32 multiply-adds of vectors; with three digits, eleven times what floats can do. */

enum { ROWS_AHEAD = 1 << 20 }; /* no row of this block is fetched ahead: all are there before the first product */
#define DIGITS_BY                                                                                      \
    .speed = 6, .forward_fetches = FETCH_HALF, .open = digits_open, .close = digits_close,             \
    .row_bytes = digits_row_bytes
enum { AHEAD = 5 * STEP }; /* so far ahead rows in place come from L2 into L1; 1 to 3 steps were slower */

/* Stores before this come before tile loads after it: GCC does not know that a tile load reads memory. */
INLINE void settle(void)
{
    __asm__ volatile("" ::: "memory");
}

static void digits_open(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t n_rows[16];
    } shapes = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&shapes);
}

static void digits_close(void)
{
    _tile_release();
}

/* A staged row: whole steps. */
static ptrdiff_t digits_row_bytes(ptrdiff_t n_features)
{
    return STEP * n_steps(n_features);
}

/* Copies rows, one after another, each with zeros up to a whole step; or returns 1: they are multiplied in place. */
INLINE int stage_rows(const void *const *rows, ptrdiff_t n_rows, ptrdiff_t n_features, void *staged)
{
    if (staged == rows[0])
        return 1;
    char *to = staged;
    for (ptrdiff_t i = 0; i < n_rows; i++, to += digits_row_bytes(n_features)) {
        const char *row = rows[i];
        ptrdiff_t j = 0;
        for (; j + STEP <= n_features; j += STEP)
            _mm512_store_si512(to + j, _mm512_loadu_si512(row + j));
        if (j < n_features)
            _mm512_store_si512(to + j, _mm512_maskz_loadu_epi8(((__mmask64)1 << (n_features - j)) - 1, row + j));
    }
    return 0;
}

/* sums[half][16 t + r][p]: row 16 half + r of 32 times place 16 t + p; `next` is fetched meanwhile */
INLINE void multiply_rows(const int in_place, const void *const *rows, ptrdiff_t n_rows, const char *staged,
                          ptrdiff_t stride, const char *digits, ptrdiff_t n_features, int n_classes,
                          __m512i sums[2][PLACES], upcoming *next, int n_lines)
{
    (void)rows, (void)n_rows, (void)n_classes;
    settle();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (ptrdiff_t j = 0; j < n_features; j += STEP, digits += 2 * TILE_BYTES) {
        _tile_loadd(4, staged + j, stride);
        _tile_loadd(5, staged + j + 16 * stride, stride);
        for (int r = 0; in_place && r < 32; r++) /* copies are in L1 already */
            __builtin_prefetch(staged + j + AHEAD + r * stride);
        _tile_loadd(6, digits, 128);
        _tile_loadd(7, digits + 64, 128);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
        fetch_lines(next, n_lines);
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[0] + 16, 64);
    _tile_stored(2, sums[1], 64);
    _tile_stored(3, sums[1] + 16, 64);
}

/* sums[t][p]: place p times the 16 features of tile t of the panel, over the rows. For the first group of classes
 * (`fresh`), `interleave` first fills the panel with 64 features of the rows from j on. `next` is fetched meanwhile. */
INLINE void multiply_panel(const int fresh, const void *const *rows, ptrdiff_t n_rows, const char *staged,
                           ptrdiff_t stride, ptrdiff_t j, ptrdiff_t n, char *panel, const char *digits, int n_classes,
                           __m512i sums[4][PLACES], upcoming *next, int n_lines)
{
    const int in_place = staged == rows[0];
    (void)n, (void)n_classes;
    for (ptrdiff_t i = 0; fresh && i < n_rows; i += 4) {
        const char *from = staged + i * stride + j;
        __m512i four[4];
        for (int r = 0; r < 4; r++) {
            if (in_place)
                __builtin_prefetch(from + (16 + r) * stride + STEP - 1);
            four[r] = _mm512_loadu_si512(from + r * stride);
        }
        interleave(four, panel + i / STEP * 4 * TILE_BYTES + i % STEP * 16);
    }
    for (int pair = 0; pair < 4; pair += 2) {
        settle();
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (ptrdiff_t s = 0; s < n_steps(n_rows); s++) {
            _tile_loadd(4, digits + 2 * s * TILE_BYTES, 64);
            _tile_loadd(5, digits + (2 * s + 1) * TILE_BYTES, 64);
            _tile_loadd(6, panel + (4 * s + pair) * TILE_BYTES, 64);
            _tile_loadd(7, panel + (4 * s + pair + 1) * TILE_BYTES, 64);
            _tile_dpbsud(0, 4, 6);
            _tile_dpbsud(1, 5, 6);
            _tile_dpbsud(2, 4, 7);
            _tile_dpbsud(3, 5, 7);
            fetch_lines(next, pair == 0 ? n_lines / 2 : n_lines - n_lines / 2);
        }
        _tile_stored(0, sums[pair], 64);
        _tile_stored(1, sums[pair] + 16, 64);
        _tile_stored(2, sums[pair + 1], 64);
        _tile_stored(3, sums[pair + 1] + 16, 64);
    }
}
