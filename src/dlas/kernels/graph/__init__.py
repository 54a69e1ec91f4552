"""A network in, calls of kernels on named buffers out."""
