"""A table and its noise in, one part of the analysis out."""
