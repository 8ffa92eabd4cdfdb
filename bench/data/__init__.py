"""Images: what a dataset is, and how its images reach a network in batches."""
