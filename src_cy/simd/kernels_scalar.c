/* The kernels for scalar: its vector type, then the one shared text. */
#include "vector_scalar.h"
#define ISA scalar
#include "instance.h"
