"""`durable`: which calls are durable executions, and what names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bridge.config.values import metadata_name


@dataclass(frozen=True, slots=True)
class ExecutionName:
    """Where the name of an execution comes from."""

    metadata: Annotated[str, metadata_name]
    """The name of a client's metadata, in lower case. A call without it is an ordinary one."""


@dataclass(frozen=True, slots=True)
class Durable:
    """Calls that bring a name are durable executions."""

    name: ExecutionName
