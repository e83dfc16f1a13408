"""What a configuration is made of: an account on a server, a pooler, an engine, a fleet."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support.mariadb import MariaDB
from tests.support.pgbouncer import PgBouncer

from unitofwork import AsyncUnitOfWork, UnitOfWork
from unitofwork.testing.postgres import EmbeddedPostgres
from unitofwork.types import Finding

#: What `from_url` sets for each session, and a role may have instead.
SOUND_ROLE = (
    "alter role {0} set lock_timeout = '4s'",
    "alter role {0} set idle_in_transaction_session_timeout = '8s'",
    "alter role {0} set client_connection_check_interval = '500ms'",
)
#: What `from_url` has for a pool, for an engine that is made without it.
SOUND_POOL = {"pool_size": 5, "max_overflow": 0, "pool_timeout": 10, "pool_pre_ping": True}
PASSWORD = "of-a-test"


class Cluster:
    """A PostgreSQL server, watched by one superuser: "1 in use" in every sum."""

    database = "service"

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self._names = (f"app{number}" for number in itertools.count())

    def __enter__(self) -> Self:
        self.admin = psycopg.connect(self.server.url(None), autocommit=True)
        self.run(f"create database {self.database}")
        return self

    def __exit__(self, *_: object) -> None:
        self.admin.close()

    @contextlib.contextmanager
    def account(self, statements: tuple[str, ...] = ()) -> Generator[str]:
        """A role of its own; `statements` are run by the superuser, `{0}` in them is the role."""
        name = next(self._names)
        self.run(f"create role {name} login")
        try:
            self.run(*(statement.format(name) for statement in statements))
            yield name
        finally:
            # Whoever is still on the way out would be in use in the next sum.
            self.run(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity "
                f"where datname = '{self.database}'",
                f"alter database {self.database} connection limit -1",
                f"drop role {name}",
            )

    def run(self, *statements: str) -> None:
        """Run statements as the superuser."""
        for statement in statements:
            self.admin.execute(statement.encode())

    @contextlib.contextmanager
    def idle(self, count: int, user: str) -> Generator[None]:
        """So many idle sessions of one application."""
        url = f"{self.server.url(None, self.database, user)}?application_name=service:1"
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(contextlib.closing(psycopg.connect(url, autocommit=True)))
            yield


@contextlib.contextmanager
def mariadb_account(
    server: MariaDB, settings: Mapping[str, str | int], limits: str = ""
) -> Generator[str]:
    """The URL of a user of MariaDB; the global settings hold until the end of the block."""
    old = {name: server.execute(f"select @@global.{name}")[0][0] for name in settings}
    try:
        server.execute(
            f"create user app@'127.0.0.1' identified by '{PASSWORD}' {limits}",
            "grant all on test.* to app@'127.0.0.1'",
            *(f"set global {name} = {value!r}" for name, value in settings.items()),
        )
        yield server.url(user="app", password=PASSWORD)
    finally:
        restored = (f"set global {name} = {value!r}" for name, value in old.items())
        server.execute("drop user if exists app@'127.0.0.1'", *restored)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A configuration, and what the validator must say of it."""

    name: str
    #: The fixture that is its server.
    server: str = "cluster18"
    #: The codes of all its errors and warnings; none: it is clean.
    codes: tuple[str, ...] = ()
    driver: str = "asyncpg"
    #: What goes to `from_url`, or, for a `plain` one, to `create_engine`.
    engine: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False
    fleet: Mapping[str, Any] = field(default_factory=lambda: {"workers": 1, "replicas": 1})
    #: For PostgreSQL: statements of the superuser, where {0} is the role.
    setup: tuple[str, ...] = ()
    #: Idle sessions of somebody else, and of this application.
    others: int = 0
    own: int = 0
    #: Settings of a PgBouncer in between.
    pooler: Mapping[str, str | int] | None = None
    #: Whether the role may look into its admin console.
    console: bool = True
    #: For MariaDB: global settings, and limits of the user.
    settings: Mapping[str, str | int] = field(default_factory=dict)
    limits: str = ""
    #: Engines of the process that lead to the same database.
    engines: int = 1
    #: A sync engine that is used in the thread of an event loop.
    in_loop: bool = False

    def findings(self, server: Cluster | MariaDB) -> list[Finding]:
        """What the validator says."""
        with self._url(server) as url:
            return self._validated(url)

    @contextlib.contextmanager
    def _url(self, server: Cluster | MariaDB) -> Generator[str]:
        if isinstance(server, MariaDB):
            with mariadb_account(server, self.settings, self.limits) as url:
                yield url
            return
        with contextlib.ExitStack() as stack:
            name = stack.enter_context(server.account(self.setup))
            stack.enter_context(server.idle(self.others, "postgres"))
            stack.enter_context(server.idle(self.own, name))
            if self.pooler is None:
                yield server.server.url(self.driver, server.database, name)
                return
            settings = {
                "query_wait_timeout": 10,
                "stats_users": f"postgres,{name}" if self.console else "postgres",
                **self.pooler,
            }
            pooler = PgBouncer(server.server.port, settings, users={name: ""})
            yield stack.enter_context(pooler).url(self.driver, server.database, name)

    def _validated(self, url: str) -> list[Finding]:
        is_async = self.driver in ("asyncpg", "psycopg_async")
        if is_async:
            return asyncio.run(self._validate_async(url))
        if self.in_loop:
            return asyncio.run(self._validate_in_loop(url))
        return self._validate_sync(url)

    async def _validate_async(self, url: str) -> list[Finding]:
        make: Any = (
            (lambda: AsyncUnitOfWork(create_async_engine(url, **self.engine)))
            if self.plain
            else (lambda: AsyncUnitOfWork.from_url(url, **self.engine))
        )
        units = [make() for _ in range(self.engines)]
        try:
            return await units[0].validate(**self.fleet)
        finally:
            for one in units:
                await one.engine.dispose()

    def _validate_sync(self, url: str) -> list[Finding]:
        uow = (
            UnitOfWork(create_engine(url, **self.engine))
            if self.plain
            else UnitOfWork.from_url(url, **self.engine)
        )
        try:
            return uow.validate(**self.fleet)
        finally:
            uow.engine.dispose()

    async def _validate_in_loop(self, url: str) -> list[Finding]:
        return self._validate_sync(url)
