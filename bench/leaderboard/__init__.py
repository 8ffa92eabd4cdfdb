"""The board: records summarised, ranked and written as text, tables, pictures and pages. Needs no torch."""
