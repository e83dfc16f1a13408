"""The contract of units: each behaviour written once, run over every driver and both faces."""
