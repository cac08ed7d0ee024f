"""What an instance for many calls costs: memory and calls a second of `lambda_fn.runtime` (threads) and awslambdaric
(processes).

    python -m benchmarks.many_calls --concurrency 16 --seconds 5

Both run the same LambdaServer in the local Lambda, with as many callers as places. One method waits 50 ms, as for a
database. The other computes for 1 ms. Memory is the anonymous memory of the instance's processes. Pages that they share
count once, and files do not count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import aiohttp

from bridge.config.schema import FunctionConfig
from bridge.emulator.local_lambda import LocalLambda

APP = """
import os, time
import grpc
from lambda_fn import LambdaServer

def wait(request, context):
    time.sleep(0.05)
    return b"%d" % os.getppid()

def compute(request, context):
    end = time.thread_time() + 0.001
    while time.thread_time() < end:
        pass
    return b""

server = LambdaServer()
server.add_registered_method_handlers(
    "bench.Many",
    {name.title(): grpc.unary_unary_rpc_method_handler(function) for name, function in
     {"wait": wait, "compute": compute}.items()},
)
handler = server.handler
"""

# The Invoke API wants a signature, and does not verify it.
_SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/lambda/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature=" + "0" * 64,
    "X-Amz-Date": "20260101T000000Z",
}


class Found(NamedTuple):
    memory: float
    """MB."""
    processes: int
    per_second: dict[str, float]
    """Calls, by method."""


def _event(method: str) -> bytes:
    path = f"/bench.Many/{method}"
    return json.dumps(
        {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {"content-type": "application/grpc-web+proto"},
            "requestContext": {"http": {"method": "POST", "path": path, "sourceIp": "127.0.0.1"}},
            "isBase64Encoded": True,
            "body": b64encode(bytes(5)).decode(),
        }
    ).encode()


async def _measure(runtime: str, concurrency: int, seconds: float) -> Found:
    with TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(APP)
        config = FunctionConfig(
            name="many",
            code=Path(folder),
            handler="app.handler",
            runtime="awslambdaric" if runtime == "awslambdaric" else "lambda_fn",
            instance_concurrency=concurrency,
            concurrency=1,
            timeout=60,
            memory=8 << 30,
        )
        local = LocalLambda({"many": config}, log=lambda _name, _line: None)
        await local.start("127.0.0.1", 0)
        before = set(_children(os.getpid()))
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
                url = f"{local.endpoint_url}/2015-03-31/functions/many/invocations"
                await _call_for(session, url, "Wait", concurrency, 1)  # all places have served
                rates = {
                    method: await _call_for(session, url, method, concurrency, seconds)
                    for method in ("Wait", "Compute")
                }
            pids = [
                pid for child in set(_children(os.getpid())) - before if not _is_reaper(child) for pid in _family(child)
            ]
            return Found(sum(map(_proportional_size, pids)) / 1e6, len(pids), rates)
        finally:
            await local.close()


async def _call_for(session: aiohttp.ClientSession, url: str, method: str, concurrency: int, seconds: float) -> float:
    """Return the calls a second of so many callers, each of which calls again when it has its answer."""
    body, begin = _event(method), time.perf_counter()

    async def call_again_and_again() -> int:
        count = 0
        while time.perf_counter() - begin < seconds:
            async with session.post(url, data=body, headers=_SIGNED) as response:
                answer = await response.json()
                if response.status != 200 or answer.get("statusCode") != 200:
                    raise RuntimeError(f"a call failed: {response.status} {answer}")
            count += 1
        return count

    counts = await asyncio.gather(*(call_again_and_again() for _ in range(concurrency)))
    return sum(counts) / (time.perf_counter() - begin)


def _children(pid: int) -> list[int]:
    return [int(child) for tasks in Path("/proc").glob(f"{pid}/task/*/children") for child in tasks.read_text().split()]


def _family(pid: int) -> list[int]:
    return [pid, *(member for child in _children(pid) for member in _family(child))]


def _is_reaper(pid: int) -> bool:
    """Tell whether this process is the local Lambda's own, and not the function's."""
    return b"reaper" in (Path("/proc") / str(pid) / "cmdline").read_bytes()


def _proportional_size(pid: int) -> int:
    try:
        lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    chosen = parser.parse_args(arguments)
    print(f"{os.cpu_count()} processors, {chosen.concurrency} calls at once")
    print(f"{'runtime':14}{'processes':>10}{'memory':>10}{'waiting':>14}{'computing':>14}")
    for runtime in ("lambda_fn", "awslambdaric"):
        found = asyncio.run(_measure(runtime, chosen.concurrency, chosen.seconds))
        rates = found.per_second
        print(
            f"{runtime:14}{found.processes:>10}{found.memory:>7.0f} MB{rates['Wait']:>12.0f}/s"
            f"{rates['Compute']:>12.0f}/s"
        )


if __name__ == "__main__":
    main()
