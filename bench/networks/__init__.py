"""Networks: building them by name, finding their layers, loading state dicts, cutting channels, counting work."""
