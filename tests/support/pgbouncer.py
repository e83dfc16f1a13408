"""A private PgBouncer before a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from unitofwork.testing._workshop import workshop

from .service import Service


class PgBouncer(Service):
    """PgBouncer 1.18 from Debian, in front of `127.0.0.1:upstream`; a context manager.

    Args:
        upstream: the port of the PostgreSQL server, which must trust its clients.
        settings: of the section [pgbouncer], `{"pool_mode": "transaction"}`.
        users: who may connect, with their passwords ("" for none); `postgres` is always among
            them, and is the one who may read the admin console.
        databases: lines of the section [databases]; by default each name leads to its namesake.
    """

    program = package = "pgbouncer"

    def __init__(
        self,
        upstream: int,
        settings: Mapping[str, str | int] = MappingProxyType({}),
        users: Mapping[str, str] = MappingProxyType({}),
        databases: Mapping[str, str] = MappingProxyType({"*": ""}),
    ) -> None:
        super().__init__()
        self.upstream = upstream
        self.settings = settings
        self.users = {"postgres": "", **users}
        self.databases = databases

    def url(
        self, driver: str = "asyncpg", database: str = "postgres", user: str = "postgres"
    ) -> str:
        """Its URL for SQLAlchemy."""
        password = f":{self.users[user]}" if self.users.get(user) else ""
        return f"postgresql+{driver}://{user}{password}@{self.host}:{self.port}/{database}"

    def command(self, program: str) -> list[str]:
        settings: dict[str, str | int] = {
            "listen_addr": self.host,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pidfile": str(self.pid_file),
            "auth_type": "md5" if any(self.users.values()) else "trust",
            "auth_file": str(self.directory / "users"),
            "stats_users": "postgres",
            **self.settings,
        }
        databases = [
            f"{name} = host={self.host} port={self.upstream} {more}\n"
            for name, more in self.databases.items()
        ]
        pgbouncer = [f"{name} = {value}\n" for name, value in settings.items()]
        files = {
            "users": "".join(f'"{name}" "{word}"\n' for name, word in self.users.items()),
            "ini": "".join(["[databases]\n", *databases, "[pgbouncer]\n", *pgbouncer]),
        }
        for name, text in files.items():
            path = self.directory / name
            path.write_text(text)
            workshop().give(path)
        return [program, str(self.directory / "ini")]
