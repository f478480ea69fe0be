"""Files of weights, and checkpoints of unfinished trainings."""
