"""Rows of network."""
