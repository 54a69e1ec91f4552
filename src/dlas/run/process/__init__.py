"""A job in, its outcome out: the processes that work is done in."""
