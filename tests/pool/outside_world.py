"""What applications wait for while they hold a connection: each with the line that is stuck."""

from __future__ import annotations

import asyncio
import http.server
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx

#: Seconds that each of the waits takes.
WAIT = 0.6
SLEEPER = (sys.executable, "-c", f"import time; time.sleep({WAIT})")


@contextmanager
def slow_server() -> Iterator[str]:
    """The URL of an HTTP server that takes its time."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(WAIT)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def later(call: Callable[[], Any]) -> None:
    timer = threading.Timer(WAIT, call)
    timer.daemon = True
    timer.start()


# --- for tasks


async def sleep(url: str) -> None:
    await asyncio.sleep(WAIT)  # asyncio.sleep


async def lock(url: str) -> None:
    taken = asyncio.Lock()
    await taken.acquire()
    asyncio.get_running_loop().call_later(WAIT, taken.release)
    async with taken:  # asyncio.Lock
        pass


async def get_from_queue(url: str) -> None:
    empty: asyncio.Queue[int] = asyncio.Queue()
    asyncio.get_running_loop().call_later(WAIT, empty.put_nowait, 1)
    await empty.get()  # asyncio.Queue


async def event(url: str) -> None:
    unset = asyncio.Event()
    asyncio.get_running_loop().call_later(WAIT, unset.set)
    await unset.wait()  # asyncio.Event


async def gather(url: str) -> None:
    await asyncio.gather(asyncio.sleep(WAIT), asyncio.sleep(0))  # asyncio.gather


async def with_httpx(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(url)  # httpx


async def with_aiohttp(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        response = await session.get(url)  # aiohttp
        await response.read()


async def with_aiohttp_block(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:  # aiohttp's block
            await response.read()


async def process(url: str) -> None:
    child = await asyncio.create_subprocess_exec(*SLEEPER)
    await child.wait()  # subprocess


async def thread(url: str) -> None:
    await asyncio.to_thread(time.sleep, WAIT)  # asyncio.to_thread


async def block(url: str) -> None:
    time.sleep(WAIT)  # the loop stands still


async def fetch_deep_down(url: str) -> None:
    async def helper() -> None:
        await asyncio.sleep(WAIT)  # three calls down

    async def service() -> None:
        await helper()

    await service()


#: By the end of the line that is stuck: the wait, and what the chain must lead down to.
TASKS: dict[str, tuple[Any, str]] = {
    "asyncio.sleep": (sleep, " sleep\n"),
    "asyncio.Lock": (lock, "Lock.acquire"),
    "asyncio.Queue": (get_from_queue, "Queue.get"),
    "asyncio.Event": (event, "Event.wait"),
    "asyncio.gather": (gather, "gather"),
    "httpx": (with_httpx, "SocketStream.receive"),
    "aiohttp": (with_aiohttp, "ClientSession._request"),
    "aiohttp's block": (with_aiohttp_block, "ClientSession._request"),
    "subprocess": (process, "Process.wait"),
    "asyncio.to_thread": (thread, "to_thread"),
    "the loop stands still": (block, "block"),
    "three calls down": (fetch_deep_down, " sleep\n"),
}


# --- for threads


def sync_sleep(url: str) -> None:
    time.sleep(WAIT)  # time.sleep


def sync_lock(url: str) -> None:
    taken = threading.Lock()
    taken.acquire()
    later(taken.release)
    taken.acquire()  # threading.Lock


def sync_queue(url: str) -> None:
    empty: queue.Queue[int] = queue.Queue()
    later(lambda: empty.put(1))
    empty.get()  # queue.Queue


def sync_event(url: str) -> None:
    unset = threading.Event()
    later(unset.set)
    unset.wait(30)  # threading.Event


def sync_urllib(url: str) -> None:
    urllib.request.urlopen(url).read()  # urllib


def sync_httpx(url: str) -> None:
    with httpx.Client(trust_env=False) as client:
        client.get(url)  # httpx in sync


def sync_socket(url: str) -> None:
    one, other = socket.socketpair()
    with one, other:
        later(lambda: other.send(b"x"))
        one.recv(1)  # socket


def sync_process(url: str) -> None:
    subprocess.run(SLEEPER, check=True)  # subprocess in sync


def sync_join(url: str) -> None:
    worker = threading.Thread(target=time.sleep, args=(WAIT,))
    worker.start()
    worker.join()  # Thread.join


def sync_deep_down(url: str) -> None:
    def helper() -> None:
        time.sleep(WAIT)  # three calls down in sync

    def service() -> None:
        helper()

    service()


THREADS: dict[str, tuple[Any, str]] = {
    "time.sleep": (sync_sleep, "sync_sleep"),
    "threading.Lock": (sync_lock, "sync_lock"),
    "queue.Queue": (sync_queue, "Queue.get"),
    "threading.Event": (sync_event, "Event.wait"),
    "urllib": (sync_urllib, "SocketIO.readinto"),
    "httpx in sync": (sync_httpx, "SyncStream.read"),
    "socket": (sync_socket, "sync_socket"),
    "subprocess in sync": (sync_process, "Popen."),
    "Thread.join": (sync_join, "Thread.join"),
    "three calls down in sync": (sync_deep_down, "helper"),
}
