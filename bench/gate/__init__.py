"""The gate: a store's records against a committed baseline, figure by figure."""
