"""What a trained network sees in one's own images and videos."""
