"""The one training loop, its checkpoints, and the lab through which a method trains."""
