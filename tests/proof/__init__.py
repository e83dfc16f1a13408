"""The lock protocol's model, checked with spin; see docs/proof/README.md."""
