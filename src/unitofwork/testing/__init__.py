"""Helpers for testing code that uses units of work; nothing here is imported by the library."""
