/* The kernels for amx: those of avx512, and products by tiles. */
#include "kernels.h"
#if HAS_AMX
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
#include "vector_avx512.h"
#define ISA amx
#define HAS_DIGITS
#define HAS_AMX_TILES
#include "instance.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int not_for_this_machine; /* ISO C wants something in every file */
#endif
