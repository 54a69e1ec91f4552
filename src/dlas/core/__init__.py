"""The words that every room shares: values, keys, errors, protocols, look-ups."""
