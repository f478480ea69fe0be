"""The reports of the studies of the delta rule."""
