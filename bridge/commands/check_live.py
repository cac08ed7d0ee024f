"""`check --live`: asks AWS about each function. DryRun: no function runs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator

from bridge.commands.failure import CommandFailed
from bridge.commands.iam import filled, region_of_environment
from bridge.config.permissions import AccountPlace, missing, role_of
from bridge.config.schema import Config, TargetShare
from bridge.conversion.converter import Conversions
from bridge.layers.deadline import Deadlines
from bridge.rpc.errors import AccessRefused, RpcError, StaleCredentials
from bridge.rpc.figures import BridgeFigures
from bridge.stack import Shared, Stack
from bridge.targets.builder import Destination

_CREDENTIALS_SECONDS = 20.0
_DRY_RUN_SECONDS = 20.0
_LEAST_DUPLEX_SECONDS = 60.0
"""A timeout below this ends most streams early."""


def check_live(config: Config) -> int:
    """Print for each function on AWS whether it may be called. Returns 0, or 1 if AWS refuses one. Raises
    CommandFailed.
    """
    return asyncio.run(_check_live(config))


async def _check_live(config: Config) -> int:
    refused = 0
    for key, seconds in _local_timeouts(config):
        _warn_of_short(key, seconds)
    async for destination, error, timeout in _dry_runs(config):
        refused += error is not None
        print(f"  {destination.key}: {error or 'may be called'}", flush=True)
        _warn_of_short(destination.key, timeout)
        if isinstance(error, AccessRefused) and not isinstance(error, StaleCredentials):
            for line in _lacks(config, destination):
                print(f"    {line}", flush=True)
    return 1 if refused else 0


def _warn_of_short(key: str, timeout: float | None) -> None:
    if timeout is not None and timeout < _LEAST_DUPLEX_SECONDS:
        print(
            f"warning: {key}: the function's timeout is {timeout:g} s, and its calls in full duplex last no longer:"
            f" raise it to {_LEAST_DUPLEX_SECONDS:g} s at least (Lambda allows 30 minutes), or set duplex.use: never",
            file=sys.stderr,
            flush=True,
        )


def _local_timeouts(config: Config) -> Iterator[tuple[str, float]]:
    """Yield the timeouts of local functions that may take calls in full duplex, by entry."""
    for key, service in config.services.items():
        for leg in service.legs:
            name = leg.target.local_function
            if name is not None and name in config.functions and _connects(leg, config):
                yield key, config.functions[name].timeout


def _connects(leg: TargetShare, config: Config) -> bool:
    return config.duplex is not None and leg.may_connect


def _lacks(config: Config, destination: Destination) -> Iterator[str]:
    """Yield the statements that the refused identity needs. One of them is missing, or a policy denies the call."""
    leg = destination.leg
    role = role_of(leg, config)
    yield f"add to the policy of {'the bridge' if role is None else role.arn}, or see whether another policy denies it:"
    place = AccountPlace(region=region_of_environment())
    for statement in missing(config.services[destination.key], leg, config, place):
        yield filled(json.dumps(statement.document()))


async def _dry_runs(config: Config) -> AsyncIterator[tuple[Destination, Exception | None, float | None]]:
    """Each function on AWS with what keeps us from calling it. Those that may take calls in full duplex have their
    timeout too, as far as AWS tells it. Local functions are not asked: nothing runs them now.
    """
    figures = BridgeFigures()
    shared = Shared(
        figures,
        {},
        Deadlines(asyncio.get_running_loop()),
        os.environ,
        conversions=Conversions(buffers=figures.buffers),
    )
    stack = Stack(config, shared, local_endpoint="http://127.0.0.1:1")
    await stack.open()
    try:
        await wait_for_credentials(stack)
        for invocation in stack.invocations:
            if not invocation.is_local:
                error = await _dry_run(invocation)
                asks = error is None and _connects(invocation.leg, config)
                yield invocation, error, await _timeout(stack, invocation.leg) if asks else None
    finally:
        await stack.close()


async def wait_for_credentials(stack: Stack) -> None:
    """Wait until the stack has the credentials that it needs. Raises CommandFailed."""
    if stack.credentials is None:
        return
    try:
        async with asyncio.timeout(_CREDENTIALS_SECONDS):
            await stack.credentials.wait_until_searched()
    except TimeoutError as error:
        raise CommandFailed(stack.credentials.missing) from error
    if not stack.credentials.is_ready:
        raise CommandFailed(stack.credentials.missing)  # why is in the log


async def _timeout(stack: Stack, leg: TargetShare) -> float | None:
    """Return the function's timeout, None if the bridge may not ask. Calls do not need that permission."""
    try:
        async with asyncio.timeout(_DRY_RUN_SECONDS):
            return await stack.configuration_of(leg).timeout()
    except (RpcError, TimeoutError):
        return None


async def _dry_run(invocation: Destination) -> Exception | None:
    try:
        async with asyncio.timeout(_DRY_RUN_SECONDS):
            await invocation.carrier.dry_run()
    except RpcError as error:
        return error
    except TimeoutError:
        return TimeoutError(f"no answer within {_DRY_RUN_SECONDS:g} s")
    return None
