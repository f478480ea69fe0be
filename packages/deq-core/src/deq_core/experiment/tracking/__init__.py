"""Tracks runs in MLflow."""
