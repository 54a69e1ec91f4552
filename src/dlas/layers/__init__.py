"""The built-in techniques, a folder per layer, found through entry points like anyone's."""
