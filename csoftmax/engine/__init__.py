"""How a pass over the rows is made: the one door to the kernels."""
