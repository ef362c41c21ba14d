/* Which instruction sets does this CPU have, and does the operating system save their registers? */
#define _DEFAULT_SOURCE /* syscall */
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if HAS_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

static uint64_t enabled_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

/* Linux saves the tiles of a process only on request. */
static int tiles_granted(void)
{
#if HAS_AMX
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return 0;
#endif
}

static void x86_features(int *avx2, int *avx512, int *vnni, int *amx)
{
    unsigned a, b, c, d, c1;
    *avx2 = *avx512 = *vnni = *amx = 0;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || !(c1 & bit_OSXSAVE))
        return;
    const uint64_t state = enabled_state();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return;
    /* XCR0 bits 1-2: SSE and AVX registers; bits 5-7: opmask and the two halves of ZMM */
    *avx2 = (state & 0x06) == 0x06 && (c1 & bit_FMA) && (c1 & bit_F16C) && (b & bit_AVX2);
    *avx512 = *avx2 && (state & 0xe6) == 0xe6 && (b & bit_AVX512F) && (b & bit_AVX512BW) &&
              (b & bit_AVX512DQ) && (b & bit_AVX512VL);
    *vnni = *avx512 && (c & bit_AVX512VNNI);
    /* bits 17-18: the tiles' shapes and contents; leaf 7, EDX 22, 24, 25: bfloat16, tiles, 8 bits */
    *amx = *avx512 && (state & 0x60000) == 0x60000 && (d >> 22 & 13) == 13 && tiles_granted();
}
#endif

int available_instruction_sets(const instruction_set *found[MOST_INSTRUCTION_SETS])
{
    int n = 0;
#if defined(__x86_64__)
    int avx2, avx512, vnni, amx;
    x86_features(&avx2, &avx512, &vnni, &amx);
#if HAS_AMX
    if (amx)
        found[n++] = &kernels_amx;
#endif
    if (vnni)
        found[n++] = &kernels_vnni;
    if (avx512)
        found[n++] = &kernels_avx512;
    if (avx2)
        found[n++] = &kernels_avx2;
#elif defined(__aarch64__)
    found[n++] = &kernels_neon; /* part of the base architecture */
#endif
    found[n++] = &kernels_scalar;
    return n;
}
