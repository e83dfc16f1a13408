"""The startup validator: gathers what is known of engine, process and server, and judges it."""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus

import sqlalchemy
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from ..errors import ConfigurationError, PoolSizingError
from ..policies.sizing import Facts, PoolerFacts, judge, process_facts
from ..sql.facts import (
    InThread,
    is_denied,
    is_mixed_up,
    pooler_behind,
    pooler_facts,
    server_facts,
)
from ..sql.facts_engine import engine_facts
from ..types import Finding, Fleet
from .home import Home

#: Seconds within which the server has to be reached and to answer.
PATIENCE = 5.0
MODES = ("error", "warn", "off")
log = logging.getLogger("unitofwork.validator")


class Validation:
    """One look at an engine and its server. Making it does no I/O; a face runs it in its way.

    Raises `ConfigurationError` for an argument that can't be, and for an engine whose connections
    belong to another process or event loop.
    """

    def __init__(
        self,
        home: Home,
        fleet: Fleet,
        *,
        others: Iterable[Home] = (),
        threads: int | None = None,
        in_event_loop: bool = False,
    ) -> None:
        home.origin.check()
        self._engine = home.engine
        process = process_facts(
            _with_declared(checked(fleet), home),
            os.environ,
            sys.argv,
            threads=threads,
            in_event_loop=in_event_loop,
            other_engines=tuple(
                engine_facts(one.engine) for one in others if one is not home and _is_in_use(one)
            ),
        )
        self.facts = Facts(
            engine=engine_facts(home.engine), process=process, sqlalchemy=_sqlalchemy_version()
        )

    def ask(self, in_thread: InThread) -> None:
        """Read the server's facts, through a connection of the pool. An error becomes a fact."""
        try:
            with self._engine.connect() as connection:
                self._ask(connection, in_thread)
                connection.rollback()
        except Exception as error:
            if not _is_the_servers(self._engine, error):
                raise
            self._failed(error, in_thread)

    def _ask(self, connection: Connection, in_thread: InThread) -> None:
        self.facts = replace(self.facts, engine=engine_facts(self._engine, connection))
        self.facts = replace(self.facts, server=server_facts(connection))
        self.facts = replace(self.facts, pooler=pooler_facts(connection, in_thread))

    def _failed(self, error: Exception, in_thread: InThread) -> None:
        shown = _shown(self._engine, error)
        if is_denied(error):
            self.facts = replace(self.facts, denied=shown)
            return
        if is_mixed_up(error):
            # A proof: only a pooler that shares server connections gives the driver someone
            # else's prepared statements.
            kept = self.facts.engine.prepared_statements or 1
            self.facts = replace(
                self.facts,
                engine=replace(self.facts.engine, prepared_statements=kept),
                pooler=PoolerFacts(name="a pooler", mode="transaction", known_from="behaviour"),
            )
            return
        # A pooler that refuses what the driver does at connect may still say what it is.
        pooler = pooler_behind(self._engine.url, in_thread)
        if pooler is None or pooler.mode != "statement":
            self.facts = replace(self.facts, unreachable=shown)
        self.facts = replace(self.facts, pooler=pooler)

    def gave_up(self) -> None:
        """The server did not answer within `PATIENCE`."""
        self.facts = replace(self.facts, unreachable=f"no answer within {PATIENCE:g} s.")

    def findings(self) -> list[Finding]:
        """What the rules have to say, errors first."""
        return judge(self.facts)


def checked(fleet: Fleet) -> Fleet:
    """Refuse what can't be. Raises `ConfigurationError`."""
    given: dict[str, Any] = dict(fleet)
    for name, value in given.items():
        kind = Fleet.__annotations__.get(name)
        if kind is None:
            raise ConfigurationError(
                f"{name!r} is no fact of a fleet.", f"use {', '.join(Fleet.__annotations__)}."
            )
        if value is None:
            continue
        whole = "int" in str(kind)
        good = isinstance(value, int) if whole else isinstance(value, (int, float))
        if isinstance(value, bool) or not good or not math.isfinite(value) or value <= 0:
            raise ConfigurationError(
                f"{name}={value!r} is not {'a count' if whole else 'a number above 0'}.",
                "pass an int from 1." if whole else "pass a number such as 2.5.",
            )
    return fleet


def check_mode(mode: object, wait: object) -> None:
    """Refuse a `validate=` or `wait=` of the lifespan. Raises `ConfigurationError`."""
    if mode not in MODES:
        listed = ", ".join(repr(one) for one in MODES)
        raise ConfigurationError(f"validate={mode!r} is unknown.", f"use one of {listed}.")
    if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not 0 <= wait < math.inf:
        raise ConfigurationError(f"wait={wait!r} is not a number.", "pass seconds, such as 30.")


def is_away(findings: list[Finding]) -> bool:
    """Whether the server could not be asked, and may be there later."""
    return any(finding.code == "unreachable" for finding in findings)


def act_on(findings: list[Finding], mode: str) -> None:
    """Log them; in mode "error" refuse to start. Raises `PoolSizingError`."""
    errors = [finding for finding in findings if finding.severity == "error"]
    refused = bool(errors) and mode == "error"
    for finding in findings:
        # What the error will list needs not be logged as well.
        if not (refused and finding.severity == "error"):
            log.log(logging.INFO if finding.severity == "info" else logging.WARNING, "%s", finding)
    if refused:
        listed = "".join("\n" + textwrap.indent(str(finding), "  ") for finding in errors)
        raise PoolSizingError(
            f"The pool can't serve like this:{listed}",
            'change what is named, or start all the same with lifespan(validate="warn").',
            findings=tuple(findings),
        )


def _is_in_use(home: Home) -> bool:
    """Whether an engine has connections, or is new; one that has none any more was put away."""
    pool = home.engine.pool
    if isinstance(pool, QueuePool) and pool.checkedin() + pool.checkedout() > 0:
        return True
    return not home.closed and home.origin.is_new


def _with_declared(fleet: Fleet, home: Home) -> Fleet:
    """What is given counts, else the most that a unit has asked for."""
    if fleet.get("connections") is not None:
        return fleet
    running = [unit.settings.connections or 1 for unit in list(home.running)]
    most = max(running, default=1)
    return fleet if most == 1 else {**fleet, "connections": most}


def _sqlalchemy_version() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", sqlalchemy.__version__)[:3])


def _is_the_servers(engine: Engine, error: Exception) -> bool:
    """Whether it came from server, network or driver; anything else is a mistake of ours."""
    # asyncpg's errors at connect reach us unwrapped.
    driver = type(error).__module__.partition(".")[0]
    from_driver = driver in (engine.dialect.driver, "asyncpg")
    kinds = (SQLAlchemyError, OSError, engine.dialect.loaded_dbapi.Error)
    return from_driver or isinstance(error, kinds)


def _shown(engine: Engine, error: Exception) -> str:
    """The driver's first lines; the password is not among them, whatever a driver may say."""
    inner = getattr(error, "orig", None) or error
    text = f"{type(inner).__name__}: {inner}".strip()
    password = str(engine.url.password or "")
    for form in {password, quote(password), quote(password, safe=""), quote_plus(password)} - {""}:
        text = text.replace(form, "***")
    return "; ".join(line.strip() for line in text.splitlines()[:3] if line.strip())
