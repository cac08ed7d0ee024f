"""What all tests share."""

import gc
import os

from hypothesis import settings

from tests.support.ci import pytest_collection_modifyitems, pytest_runtest_makereport  # noqa: F401 - hooks

pytest_plugins = ["lambda_fn.testing.pytest"]

# Tests start processes while gRPC's threads run. With its fork support on, gRPC's own handlers run in each child before
# it has become another program; on a busy machine a child can hang in them. Whoever sets it must do so before grpc is
# imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# How many inputs Hypothesis makes for each property. `--hypothesis-profile` chooses a profile by its name: `make
# check` uses "fast", `make test` and CI "thorough". Both make the same inputs in each run, so that a failure says
# something about the change, not about chance. "exploring" makes new inputs in each run, for somebody who looks for
# faults. No example has a deadline: its wall time says how busy the machine is. pytest-timeout ends a test that
# hangs.
settings.register_profile("fast", max_examples=20, derandomize=True, deadline=None)
settings.register_profile("thorough", max_examples=150, derandomize=True, deadline=None)
settings.register_profile("exploring", max_examples=1000, deadline=None)
settings.load_profile("thorough")


def pytest_collection_finish() -> None:
    """Let no collection of garbage look again at the hundreds of thousands of objects that are the tests: they stay."""
    gc.freeze()
