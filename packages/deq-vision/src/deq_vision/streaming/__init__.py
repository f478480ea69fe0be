"""StreamDEQ: a model on video, each solve begun at the state of the last frame, and how that is measured."""
