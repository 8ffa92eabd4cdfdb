"""Figures of a network: counts, accuracy, latency, robustness; and pictures of its weights."""
