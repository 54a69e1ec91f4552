"""Built-in techniques of the layer."""
