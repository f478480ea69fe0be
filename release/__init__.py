"""Builds and checks releases: `make release-check`."""
