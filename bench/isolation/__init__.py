"""The state of this process that foreign code may change: read before a trial, restored and compared after it."""
