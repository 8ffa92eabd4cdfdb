"""`bench submit` and `bench verify`: results that are handed in, and what of them can be recomputed elsewhere."""
