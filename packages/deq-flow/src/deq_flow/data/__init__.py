"""Optical-flow data: file formats, data sets, the embedded mini sets, augmentation and batches."""
