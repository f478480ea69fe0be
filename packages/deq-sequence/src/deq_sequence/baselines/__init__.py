"""N-gram language models, the baselines without a network."""
