"""What techniques of the layer optimization share."""
