"""Training: the loop, its steps, and several processes."""
