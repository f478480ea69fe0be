"""What reports and documentation say of a run: claims of papers, findings, tracked runs and times."""
