"""Your own images, in any of three layouts: class folders, images with masks, images with boxes."""
