"""Generation of text from a prompt."""
