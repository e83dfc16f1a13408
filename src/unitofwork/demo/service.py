"""A slow HTTP service on a free loopback port, and its client: the outside world of the demo."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator

from aiohttp import ClientSession, TCPConnector, web


class ScoreClient:
    """Asks the service over HTTP, as an application would."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def score(self, email: str) -> int:
        """The score of a customer. Raises `aiohttp.ClientError`."""
        async with self._session.get(self._url, params={"email": email}) as response:
            response.raise_for_status()
            return int(await response.text())


@contextlib.asynccontextmanager
async def slow_service(seconds: float) -> AsyncGenerator[ScoreClient]:
    """Run the service, which takes `seconds` for each answer; gives a client for it."""

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(seconds)
        return web.Response(text=str(zlib.crc32(request.query["email"].encode()) % 1000))

    app = web.Application()
    app.router.add_get("/score", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        host, port = runner.addresses[0][:2]
        # No limit of the client's own: only the database pool shall make requests wait.
        async with ClientSession(connector=TCPConnector(limit=0)) as session:
            yield ScoreClient(session, f"http://{host}:{port}/score")
    finally:
        await runner.cleanup()
