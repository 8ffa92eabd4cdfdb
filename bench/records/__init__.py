"""What a trial leaves behind: the record, and the store that keeps records. Needs no torch."""
