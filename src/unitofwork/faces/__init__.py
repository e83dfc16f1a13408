"""The two faces: what waits otherwise than on SQLAlchemy, for asyncio and for threads."""
