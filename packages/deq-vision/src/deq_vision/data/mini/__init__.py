"""The generated data sets, clutter digits and street videos, in the layouts of published ones."""
