"""Checkpoints in the layouts of the releases."""
