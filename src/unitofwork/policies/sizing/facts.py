"""What the rules judge: facts about engine, process, server and pooler. None means unknown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PoolMode = Literal["session", "transaction", "statement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """One SQLAlchemy engine of this process; times in seconds."""

    #: "postgresql", "mysql", "mariadb", "sqlite".
    backend: str
    driver: str
    is_async: bool = False
    #: Where it leads, without user and password: "db:5432", or the file.
    server: str = ""
    database: str = ""
    #: "QueuePool", "NullPool", ...
    pool_class: str = "QueuePool"
    #: As SQLAlchemy takes them: size 0 and overflow -1 mean no limit. None: this class has none.
    pool_size: int | None = None
    max_overflow: int | None = None
    pool_timeout: float | None = None
    #: -1: never.
    pool_recycle: float | None = None
    pre_ping: bool | None = None
    #: Idle connections are asked whether they live, as `from_url` arranges it.
    checks_idle: bool | None = None
    lifo: bool | None = None
    #: What was asked of the engine; None: nothing was.
    isolation: str | None = None
    read_only: bool | None = None
    #: Prepared statements that outlive their transaction: how many the driver keeps; 0: none.
    prepared_statements: int | None = None
    #: Each prepared statement has a name that no other connection gives.
    unique_statement_names: bool | None = None
    echo: bool = False

    @property
    def capacity(self) -> int | None:
        """Connections that it may open; None where there is no limit, or none is known."""
        if self.pool_class in ("StaticPool", "AssertionPool"):
            return 1
        if not self.pool_size or self.max_overflow is None or self.max_overflow < 0:
            return None
        return self.pool_size + self.max_overflow

    @property
    def is_sqlite(self) -> bool:
        """Whether there is no server whose connections could run out."""
        return self.backend == "sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """This process and the fleet that it is one of; times in seconds."""

    #: Processes of one replica, and where that is known from ("argument", "WEB_CONCURRENCY").
    workers: int | None = None
    workers_from: str | None = None
    replicas: int | None = None
    replicas_from: str | None = None
    #: Generations of the fleet that are connected at once while it is deployed.
    generations: int = 2
    #: Threads that serve sync endpoints; units that run at once in an event loop.
    threads: int | None = None
    concurrency: int | None = None
    in_event_loop: bool | None = None
    #: The most connections that one tree of units may hold.
    connections: int | None = None
    request_timeout: float | None = None
    #: How long a firewall, proxy or load balancer on the way lets a connection be idle.
    idle_limit: float | None = None
    #: Units per second that the whole fleet shall serve, and what one takes.
    throughput: float | None = None
    transaction_time: float | None = None
    #: The other engines of this process.
    other_engines: tuple[EngineFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MySQLFacts:
    """What only MySQL and MariaDB have."""

    #: A lock wait that timed out rolls the whole transaction back, not just the statement.
    rollback_on_timeout: bool | None = None
    #: `wsrep_local_state_comment` and `wsrep_ready`; None where there is no cluster.
    galera_state: str | None = None
    galera_ready: bool | None = None
    interactive_timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SQLiteFacts:
    """What only SQLite has."""

    in_memory: bool = False
    journal_mode: str | None = None
    busy_timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The server, as the engine's role sees it; times in seconds, 0 means no limit."""

    #: "PostgreSQL", "MySQL", "MariaDB", "SQLite".
    product: str
    version: tuple[int, ...] = ()
    max_connections: int | None = None
    #: Of those, kept for roles that this one is not.
    reserved: int | None = None
    #: Client connections now, this application's left out.
    others: int | None = None
    #: This application's connections now: same role, same application name.
    own: int | None = None
    #: Limits of the role and of the database (-1: none), and what others use of them.
    role_limit: int | None = None
    role_others: int | None = None
    database_limit: int | None = None
    database_others: int | None = None
    lock_timeout: float | None = None
    statement_timeout: float | None = None
    idle_in_transaction_timeout: float | None = None
    transaction_timeout: float | None = None
    #: How long a session may be idle: `idle_session_timeout`, MySQL's `wait_timeout`.
    idle_timeout: float | None = None
    deadlock_timeout: float | None = None
    client_check_interval: float | None = None
    keepalives_idle: float | None = None
    keepalives_interval: float | None = None
    keepalives_count: int | None = None
    isolation: str | None = None
    read_only: bool | None = None
    in_recovery: bool | None = None
    #: Settings that this engine makes in each session (SET, set_config).
    session_settings: frozenset[str] = frozenset()
    #: Mean time of a transaction in this database, as the server has measured it.
    transaction_time: float | None = None
    mysql: MySQLFacts | None = None
    sqlite: SQLiteFacts | None = None
    #: Names of facts that this role may not read.
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolerFacts:
    """A pooler between engine and server; times in seconds, 0 means no limit."""

    #: "PgBouncer", or "a pooler" where only its behaviour shows.
    name: str = "PgBouncer"
    version: tuple[int, ...] = ()
    mode: PoolMode | None = None
    #: Server connections for one user and database.
    default_pool_size: int | None = None
    max_client_conn: int | None = None
    #: Client connections of others.
    clients_of_others: int | None = None
    max_db_connections: int | None = None
    max_prepared_statements: int | None = None
    query_wait_timeout: float | None = None
    #: "console" or "behaviour".
    known_from: str = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the rules look at."""

    engine: EngineFacts
    process: ProcessFacts = field(default_factory=ProcessFacts)
    #: None: the server was not, or could not be, asked.
    server: ServerFacts | None = None
    pooler: PoolerFacts | None = None
    sqlalchemy: tuple[int, ...] = ()
    #: Why the server could not be asked: it is away, or it doesn't let this user in.
    unreachable: str | None = None
    denied: str | None = None
