"""Records so far -> which stacks to measure next -> the same plan, run and table."""
