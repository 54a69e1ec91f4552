"""What techniques of the layer algorithm share."""
