"""Files that are copied into an exported folder as they are: they know nothing of dlas."""
