"""Benchmarks, side by side in one run: `nox -s bench`, or `python -m benchmarks --quick`."""
