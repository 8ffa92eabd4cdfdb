"""What a trial leaves behind: the record, and the store that records lie in. Needs no torch."""
