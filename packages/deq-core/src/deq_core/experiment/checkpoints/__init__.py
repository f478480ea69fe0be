"""Weights in files, and the state of an unfinished training."""
