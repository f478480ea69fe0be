"""Multiscale deep equilibrium models for vision. Empty so far."""
