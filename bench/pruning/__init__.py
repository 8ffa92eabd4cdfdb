"""Removing filters and zeroing weights: which may go, how they are ranked, and what follows from it."""
