"""Facts of an engine: read from its pool, and from a connection for what only the driver knows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine import URL, Dialect

from ..policies.sizing import EngineFacts
from . import engines

_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
#: What psycopg takes for None.
_PSYCOPG_UNLIMITED = 2**31 - 1
_PACKAGE = f"{__name__.partition('.')[0]}."


def engine_facts(engine: Engine, connection: Connection | None = None) -> EngineFacts:
    """What is known of `engine`; with a connection, its driver's prepared statements too."""
    pool, dialect = engine.pool, engine.dialect
    # SQLAlchemy has no public names for most of these; a pool of another kind has none of them.
    size = getattr(pool, "size", None)
    timeout = getattr(pool, "timeout", None)
    queue = getattr(pool, "_pool", None)
    options = engine.get_execution_options()
    prepared, unique_names = (None, None) if connection is None else _prepared(connection)
    return EngineFacts(
        backend=dialect.name,
        driver=dialect.driver,
        is_async=dialect.is_async,
        server=server_of(engine.url),
        database=engine.url.database or "",
        pool_class=type(pool).__name__,
        pool_size=size() if size is not None else None,
        max_overflow=getattr(pool, "_max_overflow", None),
        pool_timeout=timeout() if timeout is not None else None,
        pool_recycle=getattr(pool, "_recycle", None),
        pre_ping=getattr(pool, "_pre_ping", None),
        checks_idle=_checks_idle(engine),
        lifo=getattr(queue, "use_lifo", None),
        isolation=isolation_asked(engine),
        read_only=options.get("postgresql_readonly") if isinstance(dialect, PGDialect) else None,
        prepared_statements=prepared,
        unique_statement_names=unique_names,
        echo=bool(engine.echo),
    )


def server_of(url: URL) -> str:
    """Where a URL leads, without user and password: "db:5432", or the file."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return url.database or ":memory:"
    hosts: Any = url.host or url.query.get("host") or "localhost"
    host = hosts if isinstance(hosts, str) else ",".join(hosts)
    port = url.port or url.query.get("port") or _PORTS.get(backend, "")
    return f"{host}:{port}"


def version_of(dialect: Dialect) -> tuple[int, ...]:
    """The server's version, as SQLAlchemy has learnt it at the first connect."""
    told = dialect.server_version_info or ()
    return tuple(part for part in told if isinstance(part, int))


def isolation_asked(engine: Engine) -> str | None:
    """What was asked of the engine; None: nothing was."""
    asked = engine.get_execution_options().get("isolation_level")
    asked = asked or getattr(engine.dialect, "_on_connect_isolation_level", None)
    return None if asked is None else str(asked).upper().replace("_", " ")


def _checks_idle(engine: Engine) -> bool | None:
    """Whether `from_url` arranged it; None where the user's own checkout event may do so."""
    modules = {
        str(getattr(listener, "__module__", type(listener).__module__))
        for listener in engine.pool.dispatch.checkout
    }
    if engines.__name__ in modules:
        return True
    # The ledger listens too, and looks at nothing.
    strangers = {module for module in modules if not module.startswith(_PACKAGE)}
    return None if strangers else False


def _prepared(connection: Connection) -> tuple[int | None, bool | None]:
    """How many prepared statements outlive their transaction; whether their names are unique."""
    driver: Any = connection.connection.driver_connection
    match connection.dialect.driver:
        case "asyncpg":
            adapted: Any = connection.connection.dbapi_connection
            cache = getattr(adapted, "_prepared_statement_cache", None)
            own = getattr(getattr(driver, "_config", None), "statement_cache_size", None)
            name = getattr(adapted, "_prepared_statement_name_func", None)
            default = getattr(adapted, "_default_name_func", None)
            kept = None if own is None else max(own, getattr(cache, "capacity", 0))
            return kept, None if name is None else name != default
        case "psycopg" | "psycopg_async":
            threshold = driver.prepare_threshold
            most = driver.prepared_max
            kept = _PSYCOPG_UNLIMITED if most is None else most
            return (0 if threshold is None else kept), None
        case "psycopg2" | "pymysql" | "mysqldb" | "aiosqlite" | "pysqlite" | "asyncmy" | "aiomysql":
            return 0, None
        case _:
            return None, None
