"""The name of a function: from an ARN or `NAME[:QUALIFIER]` to the host, path and query of its Invoke API.

Knows nothing of credentials, endpoints set by configuration, or whether the function exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

_INVOKE_PATH = "/2015-03-31/functions/{}/invocations"
_STREAM_PATH = "/2021-11-15/functions/{}/response-streaming-invocations"


@dataclass(frozen=True, slots=True)
class Partition:
    """A separate AWS: its own regions, accounts and host names."""

    name: str
    dns_suffix: str
    region_prefix: str
    """What the names of its regions begin with."""


PARTITIONS = (
    Partition("aws-cn", "amazonaws.com.cn", "cn-"),
    Partition("aws-us-gov", "amazonaws.com", "us-gov-"),
    Partition("aws-iso", "c2s.ic.gov", "us-iso-"),
    Partition("aws-iso-b", "sc2s.sgov.gov", "us-isob-"),
    Partition("aws-iso-e", "cloud.adc-e.uk", "eu-isoe-"),
    Partition("aws-iso-f", "csp.hci.ic.gov", "us-isof-"),
    Partition("aws-eusc", "amazonaws.eu", "eusc-"),
    Partition("aws", "amazonaws.com", ""),  # last: its prefix fits any region
)

_PARTITION_OF_NAME = {partition.name: partition for partition in PARTITIONS}

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}").fullmatch

# The patterns of the Lambda API model, FunctionName and Qualifier.
_FUNCTION = r"(?P<name>[A-Za-z0-9_.-]{1,140})(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[A-Za-z0-9_-]{1,128}))?"
_PLAIN = re.compile(_FUNCTION).fullmatch
_ARN = re.compile(
    r"arn:(?P<partition>[a-z-]+):lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):function:"
    + _FUNCTION
).fullmatch


@dataclass(frozen=True, slots=True)
class FunctionName:
    """One function, or one version or alias of it."""

    name: str
    qualifier: str | None = None
    """A version or an alias."""
    region: str | None = None
    """None: whichever the caller is configured for."""
    account: str | None = None
    """None: that of the credentials."""
    partition: str | None = None
    """None: that of the region."""

    @classmethod
    def parse(cls, text: str) -> FunctionName:
        """`arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]` or `NAME[:QUALIFIER]`. Raises ValueError."""
        if text.startswith("arn:"):
            return cls._parse_arn(text)
        found = _PLAIN(text)
        if found is None:
            raise ValueError(f"{text!r} is not a function name: expected NAME or NAME:QUALIFIER")
        return cls(**found.groupdict())

    @classmethod
    def _parse_arn(cls, text: str) -> FunctionName:
        found = _ARN(text)
        if found is None or _REGION(found["region"]) is None:
            raise ValueError(
                f"{text!r} is not a function's ARN: expected arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]"
            )
        if found["partition"] not in _PARTITION_OF_NAME:
            known = ", ".join(sorted(_PARTITION_OF_NAME))
            raise ValueError(f"{text!r} names an unknown partition; known are {known}")
        return cls(**found.groupdict())

    def __str__(self) -> str:
        """As messages to clients name it: without account and region."""
        return self.name if self.qualifier is None else f"{self.name}:{self.qualifier}"

    def endpoint_host(self, default_region: str | None = None) -> str:
        """The Lambda API's host for this function; an ARN's region always wins. Raises ValueError if there is no region."""
        region = self.region or default_region
        if region is None:
            raise ValueError(f"function {self} needs a region: set aws.region or use its ARN")
        if _REGION(region) is None:
            raise ValueError(f"{region!r} is not the name of a region, such as eu-west-1")
        return f"lambda.{region}.{self._partition_in(region).dns_suffix}"

    def _partition_in(self, region: str) -> Partition:
        if self.partition is not None:
            return _PARTITION_OF_NAME[self.partition]
        return next(found for found in PARTITIONS if region.startswith(found.region_prefix))

    @property
    def invoke_path(self) -> str:
        """The path of Invoke. With an account it holds the ARN, so that a function of another account is found."""
        return _INVOKE_PATH.format(quote(self._unqualified, safe=""))

    @property
    def stream_path(self) -> str:
        """The path of InvokeWithResponseStream; its query is that of Invoke."""
        return _STREAM_PATH.format(quote(self._unqualified, safe=""))

    @property
    def _unqualified(self) -> str:
        if self.account is None or self.region is None:
            return self.name
        partition = self._partition_in(self.region).name
        return f"arn:{partition}:lambda:{self.region}:{self.account}:function:{self.name}"

    @property
    def invoke_query(self) -> str:
        """The query of Invoke, without `?`; empty without a qualifier."""
        return "" if self.qualifier is None else f"Qualifier={quote(self.qualifier, safe='')}"
