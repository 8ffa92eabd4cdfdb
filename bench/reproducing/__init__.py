"""`bench reproduce`: the figures that a paper published beside those that are measured here."""
