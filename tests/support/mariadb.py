"""A private MariaDB server."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import NullPool, create_engine

from unitofwork.testing._workshop import ENVIRONMENT, workshop

from .service import Service, ServiceError

SCRIPTS = Path("/usr/share/mysql")
#: What mariadb-install-db feeds the server, but for the help texts.
SYSTEM_TABLES = (
    "mysql_system_tables.sql",
    "mysql_performance_tables.sql",
    "mysql_system_tables_data.sql",
)
PASSWORD = "root-of-a-test"


class MariaDB(Service):
    """MariaDB 10.11 from Debian; a context manager.

    Args:
        settings: options of the server, `{"max_connections": 50}`.

    It has a database `test` and a superuser `root` with the password `PASSWORD`.
    """

    program = "mariadbd"
    package = "mariadb-server-core"

    def __init__(self, settings: Mapping[str, str | int] = MappingProxyType({})) -> None:
        super().__init__()
        self.settings = settings

    def url(
        self,
        driver: str = "pymysql",
        database: str = "test",
        user: str = "root",
        password: str = PASSWORD,
    ) -> str:
        """Its URL for SQLAlchemy."""
        return f"mysql+{driver}://{user}:{password}@{self.host}:{self.port}/{database}"

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as root; the rows of the last one."""
        engine = create_engine(self.url(), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []

    def command(self, program: str) -> list[str]:
        data = self.directory / "data"
        data.mkdir(mode=0o700)
        workshop().give(data)
        common = [
            *(program, "--no-defaults", f"--datadir={data}", f"--pid-file={self.pid_file}"),
            *("--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"),
        ]
        self._bootstrap(common)
        first = self.directory / "first.sql"
        # The server reads one statement per line here.
        first.write_text(
            f"CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n"
            "CREATE DATABASE test;\n"
        )
        workshop().give(first)
        return [
            *common,
            *(f"--bind-address={self.host}", f"--port={self.port}", f"--socket={data}/socket"),
            *(f"--init-file={first}", "--skip-name-resolve"),
            *(f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()),
        ]

    def _bootstrap(self, common: list[str]) -> None:
        """Make the system tables: the server in its own mode for that, which opens no port."""
        script = "create database mysql;\nuse mysql;\nset @auth_root_socket = null;\n"
        script += "".join((SCRIPTS / name).read_text() for name in SYSTEM_TABLES)
        done = subprocess.run(
            [*common, "--bootstrap"],
            input=script,
            env=ENVIRONMENT,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **workshop().as_user,
        )
        if done.returncode:
            raise ServiceError(f"mariadbd --bootstrap failed:\n{done.stderr[-2000:]}")
