"""Videos and pictures in, videos out."""
