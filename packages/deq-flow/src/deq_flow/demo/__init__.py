"""The demo: flow of any video, frame by frame, as videos, pictures or files of flow."""
