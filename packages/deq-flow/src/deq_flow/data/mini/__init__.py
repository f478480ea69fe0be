"""Generated data: moving photographs with exact flow, on disk in the layouts of the published sets or on demand."""
