"""The words in which kernels are written; functions in, code out."""
