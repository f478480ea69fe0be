"""N-gram models: what a text says of its next token without a network."""
