"""The studies of the delta rule: on flow networks, a sine, and implicit representations of images."""
