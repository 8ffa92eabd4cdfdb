"""Paired comparison of networks by their predictions for the same test images. Needs no torch."""
