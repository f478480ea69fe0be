"""What a training step of a flow network does with a batch."""
