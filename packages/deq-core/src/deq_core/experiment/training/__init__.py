"""Training: the loop, its updates, optimisers and weight averaging."""
