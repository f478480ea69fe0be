"""Commands of `deq-vision` by topic; see `deq_vision.cli`."""
