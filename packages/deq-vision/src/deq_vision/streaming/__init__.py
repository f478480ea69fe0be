"""StreamDEQ: a model on video with each solve warm-started at the last frame's state, and its evaluation."""
