"""The commands of `deq-sequence`, by topic."""
