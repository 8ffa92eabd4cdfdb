"""The state of this process that code of others may change: read before a trial, put back and compared after it."""
