"""The pool under load, on real servers: admission, the ledger, release and the watch."""
