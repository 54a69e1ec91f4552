"""What techniques of the layer model share."""
