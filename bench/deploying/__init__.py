"""From an artifact to a product: predictions, and files that run without this package."""
