"""Networks as such: building them by name, finding their layers, loading state dicts, cutting, counting work."""
