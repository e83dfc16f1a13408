"""A fork, and a second event loop, after the engine was used: told with the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from unitofwork.testing.postgres import EmbeddedPostgres

from .conftest import POSTGRES
from .face import Face, sqlite_url

FORK_SYNC = """
    import os, sys
    from sqlalchemy import text
    from unitofwork import ConfigurationError, UnitOfWork

    uow = UnitOfWork.from_url(sys.argv[1])

    def use():
        with uow() as tx:
            return tx.scalar(text("SELECT 1"))

    use()
    pid = os.fork()
    if pid == 0:
        try:
            use()
            print("child: not noticed")
        except ConfigurationError as error:
            print("child:", "fork" in str(error), "dispose(close=False)" in error.remedy)
        uow.engine.dispose(close=False)
        print("child after the remedy:", use())
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    print("parent goes on:", use())
    uow.engine.dispose()
"""

FORK_ASYNC = """
    import asyncio, os, sys
    from sqlalchemy import text
    from unitofwork import AsyncUnitOfWork, ConfigurationError

    uow = AsyncUnitOfWork.from_url(sys.argv[1])

    async def use():
        async with uow() as tx:
            return await tx.scalar(text("SELECT 1"))

    async def in_child():
        try:
            await use()
            print("child: not noticed")
        except ConfigurationError as error:
            print("child:", "fork" in str(error), "dispose(close=False)" in error.remedy)
        await uow.engine.dispose(close=False)
        print("child after the remedy:", await use())
        await uow.engine.dispose()
        sys.stdout.flush()
        os._exit(0)

    with asyncio.Runner() as runner:
        runner.run(use())
        pid = os.fork()
        if pid == 0:
            asyncio.events._set_running_loop(None)
            asyncio.new_event_loop().run_until_complete(in_child())
        os.waitpid(pid, 0)
        print("parent goes on:", runner.run(use()))
        runner.run(uow.engine.dispose())
"""

SECOND_LOOP = """
    import asyncio, sys
    from sqlalchemy import text
    from unitofwork import AsyncUnitOfWork, ConfigurationError

    async def use(uow):
        async with uow() as tx:
            return await tx.scalar(text("SELECT 1"))

    async def use_and_dispose(uow):
        try:
            return await use(uow)
        finally:
            await uow.engine.dispose()

    careless = AsyncUnitOfWork.from_url(sys.argv[1])
    with asyncio.Runner() as first:
        first.run(use(careless))
        with asyncio.Runner() as second:
            try:
                second.run(use(careless))
                print("not noticed")
            except ConfigurationError as error:
                print("second loop:", "event loop" in str(error), "dispose()" in error.remedy)
        print("first loop goes on:", first.run(use_and_dispose(careless)))

    careful = AsyncUnitOfWork.from_url(sys.argv[1])
    print("with the remedy:", *(asyncio.run(use_and_dispose(careful)) for _ in range(2)))
"""

THE_ONLY_ONE = """
    import sys
    from sqlalchemy import text
    from unitofwork import CURRENT, ConfigurationError, UnitOfWork, transactional

    @transactional
    def use(*, tx=CURRENT):
        return tx.scalar(text("SELECT 1"))

    try:
        use()
    except ConfigurationError as error:
        print("none:", "none" in str(error))
    uow = UnitOfWork.from_url(sys.argv[1])
    print("the only one:", use())
    uow.engine.dispose()
"""


def run(script: str, url: str) -> list[str]:
    """The lines that the script prints, run by an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # A connection that nobody closed is told there, too.
    assert "Traceback" not in done.stderr, done.stderr
    assert "never" not in done.stderr, done.stderr
    return sorted(done.stdout.splitlines())


@pytest.fixture(params=list(Face.ALL))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    driver = Face.ALL[name][0]
    if name not in POSTGRES:
        return sqlite_url(driver, tmp_path)
    server: EmbeddedPostgres = request.getfixturevalue("postgres")
    return server.url(driver)


def test_a_fork_is_noticed(name: str, url: str) -> None:
    """The child is refused before it writes on the parent's socket; the remedy works there."""
    script = FORK_ASYNC if Face.ALL[name][1] else FORK_SYNC
    assert run(script, url) == [
        "child after the remedy: 1",
        "child: True True",
        "parent goes on: 1",
    ]


@pytest.mark.parametrize("name", [name for name in Face.ALL if Face.ALL[name][1]])
def test_a_second_event_loop_is_noticed(name: str, url: str) -> None:
    """Refused before the wrong loop's connection is used; disposed in time, each loop works."""
    assert run(SECOND_LOOP, url) == [
        "first loop goes on: 1",
        "second loop: True True",
        "with the remedy: 1 1",
    ]


@pytest.mark.parametrize("name", ["pysqlite"])
def test_the_only_unit_of_work_is_meant_by_a_bare_decorator(name: str, url: str) -> None:
    """A program with one of them needs not name it, and may make it after decorating."""
    assert run(THE_ONLY_ONE, url) == ["none: True", "the only one: 1"]
