"""A kernel's knobs in, the fastest values on this machine out."""
