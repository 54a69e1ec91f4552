"""Where the steps before measuring run."""
