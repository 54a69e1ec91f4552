"""What all kernels stand on: shapes, layouts, targets, memory."""
