/* The kernels for neon: its vector type, then the one shared text. */
#if defined(__aarch64__)
#include "vector_neon.h"
#define ISA neon
#include "instance.h"
#else
typedef int not_for_this_machine; /* ISO C wants something in every file */
#endif
