"""The regression gate: records of a store against a committed baseline, figure by figure."""
