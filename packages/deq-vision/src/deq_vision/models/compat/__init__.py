"""Official checkpoints in their released layouts."""
