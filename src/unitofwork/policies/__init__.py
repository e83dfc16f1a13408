"""Decisions without I/O: each takes values and returns what to do."""
