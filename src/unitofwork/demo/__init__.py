"""The demo: the same work through plain SQLAlchemy and through units, measured on a real server."""
