"""Video in and out."""
