"""Data sets of images and videos in their released layouts, the generated mini sets, augmentation and batches."""
