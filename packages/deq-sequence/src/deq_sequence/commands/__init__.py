"""Commands of `deq-sequence` by topic."""
