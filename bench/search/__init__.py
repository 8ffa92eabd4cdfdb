"""`bench find`: the setting that answers a question, such as the smallest file within one point of top-1."""
