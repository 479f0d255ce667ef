"""Rows of content."""
