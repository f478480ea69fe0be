"""Demos: trained networks on your own images and videos."""
