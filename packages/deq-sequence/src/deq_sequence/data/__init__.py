"""Texts, vocabularies and batches of tokens."""
