"""The metadata of a call in full duplex: the client's, and what tells lambda_fn who the client is."""

from __future__ import annotations

from bridge.carriers.duplex.carrier import facts_of
from bridge.rpc.call import Call
from bridge.rpc.metadata import Metadata
from bridge.targets.grpc_target import passed_metadata


def with_facts(call: Call) -> Metadata:
    """Return the metadata for the function."""
    return (*passed_metadata(call), *facts_of(call))
