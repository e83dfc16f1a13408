"""How each face has the validator ask the server: in bounded time, and again if it is away."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.util import await_only, greenlet_spawn

from ..core.validating import PATIENCE, Validation, is_away
from ..policies.sizing import PoolerFacts
from ..types import Finding, Fleet
from .base import UnitsOfEngine

AnyUnits = UnitsOfEngine[Any]
Ask = Callable[[], PoolerFacts | None]


def validation_of(uow: AnyUnits, fleet: Fleet) -> Validation:
    """What is to be asked for `uow`; without I/O. Raises as `Validation` does."""
    return Validation(
        uow._home,
        fleet,
        others={one._home for one in _living(UnitsOfEngine)},
        threads=_threads_of_anyio(),
        in_event_loop=asyncio._get_running_loop() is not None,
    )


def _living(kind: type[AnyUnits]) -> Iterator[AnyUnits]:
    for subclass in kind.__subclasses__():
        yield from list(subclass._all)
        yield from _living(subclass)


async def ask_async(validation: Validation) -> list[Finding]:
    """Ask without stopping the event loop."""
    try:
        async with asyncio.timeout(PATIENCE) as limit:
            await greenlet_spawn(validation.ask, _await_in_thread)
    except TimeoutError:
        if not limit.expired():
            raise
        validation.gave_up()
    return validation.findings()


def _await_in_thread(ask: Ask) -> PoolerFacts | None:
    found: PoolerFacts | None = await_only(asyncio.to_thread(ask))
    return found


def ask_sync(validation: Validation) -> list[Finding]:
    """Ask in a thread: drivers wait without limit on a network that swallows the answer."""
    if validation.facts.engine.is_sqlite:
        # No network; and a database in memory may belong to this very thread.
        validation.ask(_directly)
        return validation.findings()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            validation.ask(_directly)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=ask, name="unitofwork-validator", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        validation.gave_up()
    elif failed:
        raise failed[0]
    return validation.findings()


def _directly(ask: Ask) -> PoolerFacts | None:
    return ask()


def _threads_of_anyio() -> int | None:
    """How many threads anyio lends to sync endpoints; None outside of its reach."""
    import anyio.from_thread
    import anyio.to_thread

    limiter = anyio.to_thread.current_default_thread_limiter
    try:
        if asyncio._get_running_loop() is not None:
            tokens = limiter().total_tokens
        else:
            tokens = anyio.from_thread.run_sync(limiter).total_tokens
    except RuntimeError:  # no event loop here, and none that this thread works for
        return None
    return None if math.isinf(tokens) else int(tokens)


async def until_there_async(uow: AnyUnits, fleet: Fleet, wait: float) -> list[Finding]:
    """Ask, and ask again while the server is away, for `wait` seconds."""

    async def ask() -> list[Finding]:
        return await ask_async(validation_of(uow, fleet))

    if not wait:
        return await ask()
    from tenacity import AsyncRetrying

    return await AsyncRetrying(**_again(wait))(ask)


def until_there_sync(uow: AnyUnits, fleet: Fleet, wait: float) -> list[Finding]:
    """Ask, and ask again while the server is away, for `wait` seconds."""

    def ask() -> list[Finding]:
        return ask_sync(validation_of(uow, fleet))

    if not wait:
        return ask()
    from tenacity import Retrying

    return Retrying(**_again(wait))(ask)


def _again(wait: float) -> dict[str, Any]:
    from tenacity import retry_if_result, stop_before_delay, wait_random_exponential

    return {
        "retry": retry_if_result(is_away),
        "stop": stop_before_delay(wait),
        "wait": wait_random_exponential(multiplier=0.1, max=2.0),
        "retry_error_callback": _last_answer,
    }


def _last_answer(state: Any) -> Any:
    return state.outcome.result()
