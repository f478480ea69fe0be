"""Flow of any video, frame by frame: colour videos, side by side, arrows, and files of flow."""
