"""What can be predicted without a network."""
