"""What `unitofwork check` is to look at: a URL, or `module:attribute`."""

from __future__ import annotations

import contextlib
import importlib
import operator
import os
import re
import sys
from typing import Any

from sqlalchemy import Engine, exc, make_url
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from unitofwork import AsyncUnitOfWork, ConfigurationError, UnitOfWork

AnyUnitOfWork = AsyncUnitOfWork | UnitOfWork
#: What stands before the @ of any URL: user and password.
_CREDENTIALS = re.compile(r"://\S*@")
#: The extra of this package that has a driver.
_EXTRAS = {"asyncpg": "asyncpg", "psycopg": "psycopg", "aiosqlite": "aiosqlite", "pymysql": "mysql"}


class CheckError(Exception):
    """The check can't run; the message is one line, without a password."""


def resolve(target: str, pool_size: int | None, max_overflow: int | None) -> AnyUnitOfWork:
    """The unit of work that `target` names; no I/O but the import of a module.

    A URL gets an engine with the defaults of `from_url`, and with `pool_size` and `max_overflow`
    where these are given. Raises `CheckError`.
    """
    asked = {"pool_size": pool_size, "max_overflow": max_overflow}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if "://" in target:
        return _of_url(target, options)
    if options:
        raise CheckError("--pool-size and --max-overflow go with a URL: an engine has its own")
    return _of_module(target)


def place(url: URL) -> str:
    """Where an engine leads, with nothing of its URL that could be secret."""
    host = f"{url.host}:{url.port}" if url.port else url.host or ""
    return f"{url.drivername}://{host}/{url.database or ''}"


def redacted(text: str, url: URL | None = None) -> str:
    """The text in one line, without the credentials of any URL in it and the password of this."""
    text = _CREDENTIALS.sub("://***@", " ".join(text.split()))
    secrets = [] if url is None else [url.password, *map(str, url.query.values())]
    for secret in filter(None, secrets):
        text = text.replace(str(secret), "***")
    return text


def _of_url(text: str, options: dict[str, Any]) -> AnyUnitOfWork:
    advice = "write driver://user:password@host/database, the password with %40 for @"
    try:
        url = make_url(text)
        is_async = url.get_dialect().is_async
    except exc.NoSuchModuleError:
        raise CheckError(f"no dialect {text.partition('://')[0]!r} is installed") from None
    except (exc.ArgumentError, ValueError):
        raise CheckError(f"the URL can't be read: {advice}") from None
    if "@" in f"{url.host}{url.database}":
        # A password with an unquoted @ was cut in two: the rest of it must not be shown.
        raise CheckError(f"the URL can't be read: {advice}")
    if url.get_backend_name() == "sqlite" and not _is_there(url):
        # To ask SQLite would create it.
        raise CheckError(f"there is no file {url.database}")
    if url.get_backend_name() == "postgresql":
        # Not an instance of the application: what its role has open is taken for the fleet's.
        options["session_settings"] = {"application_name": f"unitofwork:{os.getpid()}"}
    try:
        return (AsyncUnitOfWork if is_async else UnitOfWork).from_url(url, **options)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        remedy = f"pip install 'sqlalchemy-unitofwork[{extra}]'" if extra else "install it"
        raise CheckError(f"{url.drivername} needs {error.name}: {remedy}") from None
    except (ConfigurationError, TypeError) as error:
        raise CheckError(redacted(str(error), url)) from None


def _is_there(url: URL) -> bool:
    name = url.database or ":memory:"
    return name == ":memory:" or name.startswith("file:") or os.path.exists(name)


def _of_module(target: str) -> AnyUnitOfWork:
    name, colon, attribute = target.partition(":")
    if not (name and colon and attribute):
        raise CheckError(f"{target!r} is neither a URL nor module:attribute")
    # As `python -m` has it and uvicorn does it: the project is where the command is started.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        # Stdout is for the findings.
        with contextlib.redirect_stdout(sys.stderr):
            module = importlib.import_module(name)
    except Exception as error:
        raise CheckError(
            f"can't import {name}: {type(error).__name__}: {redacted(str(error))}"
        ) from None
    try:
        found: Any = operator.attrgetter(attribute)(module)
    except AttributeError:
        raise CheckError(f"module {name} has no attribute {attribute}") from None
    if isinstance(found, AsyncEngine):
        return AsyncUnitOfWork(found)
    if isinstance(found, Engine):
        return UnitOfWork(found)
    if isinstance(found, AsyncUnitOfWork | UnitOfWork):
        return found
    raise CheckError(
        f"{target} is a {type(found).__name__}, not a unit of work or an engine of SQLAlchemy"
    )
