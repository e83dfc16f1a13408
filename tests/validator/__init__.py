"""The startup validator, on real servers."""
