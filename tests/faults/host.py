"""Rows of host."""
