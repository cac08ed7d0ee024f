"""What a channel of `lambda_fn.testing` costs: opening it, its first call, a further call, and closing it.

    python -m benchmarks.testing_channel --channels 200

The figures are medians. The first channel of a process is told by itself: grpc starts its threads with it.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from statistics import median
from typing import Any

from lambda_fn.examples import greeter, helloworld_pb2, helloworld_pb2_grpc
from lambda_fn.testing import channel

_STEPS = ("ready", "first call", "further call", "closed")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the channels of lambda_fn.testing.")
    parser.add_argument("--channels", type=int, default=200)
    count = parser.parse_args().channels
    first, *others = [_times() for _ in range(count + 1)]
    print("step          first of a process       median")
    for step, once, often in zip(_STEPS, first, map(median, zip(*others, strict=True)), strict=True):
        print(f"{step:12} {once * 1000:16.2f} ms {often * 1000:10.2f} ms")


def _times() -> tuple[float, ...]:
    request: Any = helloworld_pb2.HelloRequest
    moments = [time.perf_counter()]
    with channel(greeter.server) as opened:
        moments.append(time.perf_counter())
        stub: Any = helloworld_pb2_grpc.GreeterStub(opened)
        for _ in range(2):
            stub.SayHello(request(name="you"))
            moments.append(time.perf_counter())
    moments.append(time.perf_counter())
    return tuple(after - before for before, after in pairwise(moments))


if __name__ == "__main__":
    main()
