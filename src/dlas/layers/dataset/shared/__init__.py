"""What techniques of the layer dataset share."""
