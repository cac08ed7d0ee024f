"""`check --live`: asks AWS about each function. DryRun: no function runs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator

from bridge.commands.failure import CommandFailed
from bridge.commands.iam import filled, region_of_environment
from bridge.config.permissions import AccountPlace, missing, role_of
from bridge.config.schema import Config
from bridge.conversion.converter import Conversions
from bridge.layers.deadline import Deadlines
from bridge.rpc.errors import AccessRefused, RpcError, StaleCredentials
from bridge.rpc.figures import BridgeFigures
from bridge.stack import Shared, Stack
from bridge.targets.builder import Destination

_CREDENTIALS_SECONDS = 20.0
_DRY_RUN_SECONDS = 20.0


def check_live(config: Config) -> int:
    """Print for each function on AWS whether it may be called. Returns 0, or 1 if AWS refuses one. Raises
    CommandFailed.
    """
    return asyncio.run(_check_live(config))


async def _check_live(config: Config) -> int:
    refused = 0
    async for destination, error in _dry_runs(config):
        refused += error is not None
        print(f"  {destination.key}: {error or 'may be called'}", flush=True)
        if isinstance(error, AccessRefused) and not isinstance(error, StaleCredentials):
            for line in _lacks(config, destination):
                print(f"    {line}", flush=True)
    return 1 if refused else 0


def _lacks(config: Config, destination: Destination) -> Iterator[str]:
    """Yield the statements that the refused identity needs. One of them is missing, or a policy denies the call."""
    leg = destination.leg
    role = role_of(leg, config)
    yield f"add to the policy of {'the bridge' if role is None else role.arn}, or see whether another policy denies it:"
    place = AccountPlace(region=region_of_environment())
    for statement in missing(config.services[destination.key], leg, config, place):
        yield filled(json.dumps(statement.document()))


async def _dry_runs(config: Config) -> AsyncIterator[tuple[Destination, Exception | None]]:
    """Each function on AWS with what keeps us from calling it. Local functions are not asked: nothing runs them now."""
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
                yield invocation, await _dry_run(invocation)
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


async def _dry_run(invocation: Destination) -> Exception | None:
    try:
        async with asyncio.timeout(_DRY_RUN_SECONDS):
            await invocation.carrier.dry_run()
    except RpcError as error:
        return error
    except TimeoutError:
        return TimeoutError(f"no answer within {_DRY_RUN_SECONDS:g} s")
    return None
