"""Images and videos: data sets in their released layouts, the embedded mini sets, augmentation and batches."""
