"""Detection: boxes, what maps should hold and what is found in them, and its metrics."""
