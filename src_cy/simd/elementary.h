/* The vector type's small change, exp and log: one text for every instruction set and both compute types.
 * Included with T (float, double) and TYPE (f32, f64); V is its vector, I the integers of equal width. */
#undef FN
#undef VOP
#undef V
#undef I
#undef LANES
#undef INTEGER
#undef SMALLEST_NORMAL
#undef LARGEST_NUMBER
#undef WIDE
#define FN(name) PASTE(name, TYPE)
#define VOP(operation) PASTE(TYPE, operation)
#define V VOP(vector)
#define I VOP(integers)
#define LANES VOP(lanes)
#define WIDE (TILE_VECTORS * LANES)
#if F32
#define INTEGER int32_t
#define SMALLEST_NORMAL FLT_MIN
#define LARGEST_NUMBER FLT_MAX
#else
#define INTEGER int64_t
#define SMALLEST_NORMAL DBL_MIN
#define LARGEST_NUMBER DBL_MAX
#endif

/* ---- the vector type's small change ------------------------------------------------------------ */

INLINE V FN(all)(T x)
{
    return x - (V){0}; /* exact, and folded into a broadcast, as 0 + x is not: it turns -0 into 0 */
}
INLINE V FN(load)(const T *p)
{
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void FN(store)(T *p, V v)
{
    memcpy(p, &v, sizeof v);
}
/* the first n <= LANES elements, the other lanes filled */
INLINE V FN(load_first)(const T *p, ptrdiff_t n, T fill)
{
    return VOP(load_first)(p, n, FN(all)(fill));
}
INLINE void FN(store_first)(T *p, V v, ptrdiff_t n)
{
    VOP(store_first)(p, v, n);
}
INLINE V FN(select)(I mask, V yes, V no)
{
    return (V)(((I)yes & mask) | ((I)no & ~mask));
}
INLINE V FN(larger)(V a, V b)
{
#if defined(HAS_LARGER)
    return VOP(larger)(a, b);
#else
    return FN(select)(a > b, a, b);
#endif
}
/* horizontal: halves are folded onto each other, in one order everywhere */
INLINE T FN(sum_lanes)(V v)
{
#if defined(HAS_LANES)
    return VOP(sum_lanes)(v);
#else
    T lanes[LANES];
    FN(store)(lanes, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            lanes[lane] += lanes[lane + half];
    return lanes[0];
#endif
}
INLINE T FN(largest_lane)(V v)
{
#if defined(HAS_LANES)
    return VOP(largest_lane)(v);
#else
    T lanes[LANES];
    FN(store)(lanes, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            lanes[lane] = lanes[lane] > lanes[lane + half] ? lanes[lane] : lanes[lane + half];
    return lanes[0];
#endif
}

/* Lane i of the result: the sum of v[i]'s lanes (or the largest of them), folded in the order of sum_lanes. */
INLINE V FN(fold)(V v[LANES], const int largest)
{
#if !defined(HAS_HALVES)
    VOP(transpose)(v);
#endif
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) {
            V a = v[i], b = v[i + half];
#if defined(HAS_HALVES) /* half as many shuffles as a transpose */
            VOP(halves)(half, v[i], v[i + half], &a, &b);
#endif
            v[i] = largest ? FN(larger)(a, b) : a + b;
        }
#if defined(HAS_HALVES)
    return VOP(in_order)(v[0]);
#else
    return v[0];
#endif
}

/* ---- exp and log ------------------------------------------------------------------------------- */

/* exp(x) for x <= 0, NaN for NaN: x = n ln 2 + r, |r| <= ln 2 / 2, a minimax polynomial in r
 * (error below 0.04 ULP), times 2^n in one instruction, or by two products that are exact where the result is normal.
 * float: within 1 ULP on [-104, 0]. double: within 1 ULP on [-745.2, 0]. */
INLINE V FN(exp)(V x)
{
#if F32
    enum { FRACTION_BITS = 23, LEAST_N = -151 };
    const T magic = 0x1.8p23f, log2e = 0x1.715476p0f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    const T underflow = -105.0f;
    const T q[] = {0.499999899886f, 0.166665189753f, 0.0416690901316f, 0.00836888282302f, 0.00137803835533f};
#else
    enum { FRACTION_BITS = 52, LEAST_N = -1076 };
    const T magic = 0x1.8p52, log2e = 0x1.71547652b82fep0, ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
    const T underflow = -746.0;
    const T q[] = {0.50000000000000082463, 0.1666666666666630184, 0.04166666666654551299, 0.0083333333335573453254,
                   0.0013888888940325327753, 0.00019841269383370380935, 2.4801496014436348968e-5,
                   2.755768739692508723e-6, 2.7629339867866947852e-7, 2.4970382041447522841e-8};
#endif
    const int degree = (int)(sizeof q / sizeof *q) - 1;
#if !defined(HAS_SCALE) /* so that n is LEAST_N at least */
    x = FN(larger)(FN(all)(underflow), x);
#endif
    /* adding 1.5 * 2^FRACTION_BITS rounds to an integer, which then sits in the low bits; here as n - LEAST_N */
    const V shifted = VOP(fma)(x, FN(all)(log2e), FN(all)(magic - LEAST_N));
    const V n = shifted - (magic - LEAST_N);
    const V high = VOP(fma)(n, FN(all)(-ln2_high), x), r = VOP(fma)(n, FN(all)(-ln2_low), high); /* high is exact */
    V p = FN(all)(q[degree]);
    for (int k = degree - 1; k >= 0; k--)
        p = VOP(fma)(p, r, FN(all)(q[k]));
#if defined(HAS_SCALE) /* below, 0: also for -inf, whose r is NaN */
    p = VOP(fma)(VOP(fma)(p, r, FN(all)(1)), r, FN(all)(1));
    return VOP(scale)(p, n, x, FN(all)(underflow));
#else
    /* 2^n / last_step, but 0 for LEAST_N: a product with 0 does not underflow, which may cost 150 cycles */
    const T last_step = F32 ? (T)0x1p-24 : (T)0x1p-53; /* 2^(LEAST_N + the exponent's bias) */
    const V power = (V)((I)shifted << FRACTION_BITS);
#if defined(NO_FMA) /* every product rounds: what r lost comes back */
    return (p * (r * r) + n * -ln2_low + high + (T)1) * power * last_step;
#else
    return VOP(fma)(VOP(fma)(p, r, FN(all)(1)), r * power, power) * last_step;
#endif
#endif
}

/* log(x) for finite x >= 1, NaN for NaN: x = 2^e m with m around 1, f = m - 1, s = f / (2 + f),
 * log m = f - s (f - s^2 P(s^2)); within 1 ULP. */
INLINE V FN(log)(V x)
{
#if F32
    const T ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    const int fraction_bits = 23;
    const INTEGER root_half = 0x3f3504f3;
    const T q[] = {0.66666685839070f, 0.39988487386195f, 0.29592458350392f};
#else
    const T ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
    const int fraction_bits = 52;
    const INTEGER root_half = 0x3fe6a09e667f3bcd;
    const T q[] = {0.66666666666666699512, 0.39999999999892150595, 0.2857142862923163585, 0.22222210613840132989,
                   0.18182926433035197596, 0.15330500083386674754, 0.14631345980866508626};
#endif
    const int degree = (int)(sizeof q / sizeof *q) - 1;
    /* m in [sqrt(1/2), sqrt(2)): subtracting the bits of sqrt(1/2) puts the break there */
    const I e = ((I)x - root_half) >> fraction_bits;
    const V m = (V)((I)x - (e << fraction_bits));
    /* an integer in the low bits of 1.5 * 2^fraction_bits is that number plus the integer */
    const T magic = F32 ? (T)0x1.8p23 : (T)0x1.8p52;
    const V exponent = (V)(e + (I)FN(all)(magic)) - magic;
    const V f = m - (T)1, s = f / (f + (T)2), z = s * s;
    V p = FN(all)(q[degree]);
    for (int k = degree - 1; k >= 0; k--)
        p = VOP(fma)(p, z, FN(all)(q[k]));
    const V low = VOP(fma)(exponent, FN(all)(ln2_low), -(s * (f - z * p)));
    const V result = exponent * ln2_high + (f + low);
    return FN(select)(x == x, result, x);
}

static void FN(exp_nonpositive)(ptrdiff_t n, const void *x, void *out)
{
    const T *from = x;
    T *to = out;
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        FN(store)(to + i, FN(exp)(FN(load)(from + i)));
    if (i < n)
        FN(store_first)(to + i, FN(exp)(FN(load_first)(from + i, n - i, 0)), n - i);
}

static void FN(log_from_one)(ptrdiff_t n, const void *x, void *out)
{
    const T *from = x;
    T *to = out;
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        FN(store)(to + i, FN(log)(FN(load)(from + i)));
    if (i < n)
        FN(store_first)(to + i, FN(log)(FN(load_first)(from + i, n - i, 1)), n - i);
}

/* ---- the limits of the machine ----------------------------------------------------------------- */

static double FN(multiply_adds)(ptrdiff_t n, void *result)
{
    enum { CHAINS = 10 }; /* latency of 4 cycles, 2 a cycle: 8 chains suffice; 10 fit every register file */
    V sums[CHAINS];
    for (int c = 0; c < CHAINS; c++) /* different, or the compiler sees that one chain is enough */
        sums[c] = FN(all)((T)c);
    const V x = FN(all)((T)1.0000001), y = FN(all)(*(T *)result);
    for (ptrdiff_t round = 0; round < n; round++)
        for (int c = 0; c < CHAINS; c++)
            sums[c] = VOP(fma)(sums[c], x, y);
    for (int c = 1; c < CHAINS; c++)
        sums[0] += sums[c];
    *(T *)result = sums[0][0];
    return 2.0 * CHAINS * LANES * (double)n;
}

static int64_t FN(read_all)(const void *block, ptrdiff_t n_bytes)
{
    const T *p = block;
    I bits[4] = {{0}};
    for (ptrdiff_t j = 0; j + 4 * LANES <= n_bytes / (ptrdiff_t)sizeof(T); j += 4 * LANES)
        for (int v = 0; v < 4; v++)
            bits[v] ^= (I)FN(load)(p + j + v * LANES);
    bits[0] ^= bits[1] ^ bits[2] ^ bits[3];
    return bits[0][0] ^ bits[0][1];
}
