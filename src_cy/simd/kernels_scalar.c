/* The kernels for scalar: its vector type, then the one shared body. */
#include "vector_scalar.h"
#define ISA scalar
#include "instance.h"
