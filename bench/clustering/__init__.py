"""k-means: for many points in few dimensions, and for few points in many dimensions."""
