"""Rows of change."""
