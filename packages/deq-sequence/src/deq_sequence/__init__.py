"""DEQ-Transformer language models. Empty so far."""
