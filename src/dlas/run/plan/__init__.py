"""Stacks in, keyed steps out, each once."""
