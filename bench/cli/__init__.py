"""The command line: a thin skin over library calls."""
