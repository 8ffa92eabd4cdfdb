"""The executable form of a network, which is deployed and timed. Structure in weights is used where it is faster."""
