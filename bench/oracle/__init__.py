"""`bench oracle`: rankings of filters compared with the exact change of the loss."""
