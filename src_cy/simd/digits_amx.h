/* Products of digits by the tile unit: 16 x 64 bytes times 64 x 16 into 16 x 16 integers of 32 bits in the time of
 * 16 multiply-adds of vectors; with three digits, eleven times what floats can do. */

enum { STAGED_ROWS = 1 << 20 }; /* all, before the first product: during both, those of the next block are fetched */
#define DIGITS_PAY .speed = 6, .fetches_in_forward = 1
enum { AHEAD = 5 * STEP }; /* 1 to 3 steps measured less */

/* What was stored before may be loaded as tiles after: GCC does not see that a tile load reads memory. */
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

/* sums[half][16 t + r][p]: row 16 half + r of 32 times place 16 t + p */
INLINE void multiply_rows(const char *rows, ptrdiff_t stride, const char *digits, ptrdiff_t n_features, int n_classes,
                          __m512i sums[2][PLACES], const int in_place, upcoming *next, int n_lines)
{
    (void)n_classes;
    settle();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (ptrdiff_t j = 0; j < n_features; j += STEP, digits += 2 * TILE_BYTES) {
        _tile_loadd(4, rows + j, stride);
        _tile_loadd(5, rows + j + 16 * stride, stride);
        for (int r = 0; in_place && r < 32; r++) /* from the second cache; copies are nearer */
            __builtin_prefetch(rows + j + AHEAD + r * stride);
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

/* sums[t][p]: place p times features 16 t .. 16 t + 15 of the strip; `next` is fetched meanwhile */
INLINE void multiply_strip(const char *digits, const char *strip, ptrdiff_t steps, int n_classes,
                           __m512i sums[4][PLACES], upcoming *next, int n_lines)
{
    (void)n_classes;
    for (int pair = 0; pair < 4; pair += 2) {
        settle();
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (ptrdiff_t s = 0; s < steps; s++) {
            _tile_loadd(4, digits + 2 * s * TILE_BYTES, 64);
            _tile_loadd(5, digits + (2 * s + 1) * TILE_BYTES, 64);
            _tile_loadd(6, strip + (4 * s + pair) * TILE_BYTES, 64);
            _tile_loadd(7, strip + (4 * s + pair + 1) * TILE_BYTES, 64);
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
