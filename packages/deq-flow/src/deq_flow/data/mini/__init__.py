"""Generated data: moving photographs with exact flow, on disk in the layouts of published sets, or on demand."""
