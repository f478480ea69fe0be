"""The embedded data sets: clutter digits and videos of streets, in the layouts of the published ones."""
