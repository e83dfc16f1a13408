"""The sync core that both faces run: units, their sessions and their ends."""
