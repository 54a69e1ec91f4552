"""A study file in, its stacks, settings and goals out; wrong files are told."""
