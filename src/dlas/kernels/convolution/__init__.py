"""A convolution and a primitive's name in, a kernel out."""
