"""What is made once a solve or a block of the user's, and kept until it ends: dropout masks, weights, memories."""
