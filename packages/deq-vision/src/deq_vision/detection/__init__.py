"""Object detection: boxes, training targets, decoding and metrics."""
