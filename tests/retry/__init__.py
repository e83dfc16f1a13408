"""Retries, on real servers: what is run again, what is put back before, and what never is."""
