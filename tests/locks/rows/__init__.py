"""`tx.lock` and its kin on real servers."""
