"""What techniques of the layer software share."""
