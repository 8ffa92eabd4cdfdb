"""The executable form of a network: what is deployed and timed. Structure in its weights is used where it is faster."""
