"""What a method is, how a setting of one is written, and how installed methods and datasets are found."""
