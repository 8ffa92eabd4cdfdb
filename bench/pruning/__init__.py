"""Removing filters and setting weights to zero: which may be removed, how they are ranked, and what else changes."""
