"""Which locks a unit may wait for: the global order, and the book of what is held; pure."""
