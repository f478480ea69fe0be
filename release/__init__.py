"""What is checked before a release, and made for it: `make release-check`."""
