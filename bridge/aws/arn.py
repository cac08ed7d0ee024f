"""The names that AWS gives: partitions, regions, ARNs, and functions up to the host, path and query of their Invoke
API.

Knows nothing of credentials, endpoints set by configuration, or whether the function exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

_INVOKE_PATH = "/2015-03-31/functions/{}/invocations"
_CONFIGURATION_PATH = "/2015-03-31/functions/{}/configuration"
_STREAM_PATH = "/2021-11-15/functions/{}/response-streaming-invocations"


@dataclass(frozen=True, slots=True)
class Partition:
    """A separate AWS: its own regions, accounts and host names."""

    name: str
    dns_suffix: str
    dual_stack_suffix: str
    """The end of host names that have IPv6 addresses too."""
    region_prefix: str
    """What the names of its regions begin with."""
    home_region: str
    """Where its IAM is at home: STS is asked there if nothing names another region."""


PARTITIONS = (
    Partition("aws-cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn", "cn-", "cn-north-1"),
    Partition("aws-us-gov", "amazonaws.com", "api.aws", "us-gov-", "us-gov-west-1"),
    Partition("aws-iso", "c2s.ic.gov", "api.aws.ic.gov", "us-iso-", "us-iso-east-1"),
    Partition("aws-iso-b", "sc2s.sgov.gov", "api.aws.scloud", "us-isob-", "us-isob-east-1"),
    Partition("aws-iso-e", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", "eu-isoe-", "eu-isoe-west-1"),
    Partition("aws-iso-f", "csp.hci.ic.gov", "api.aws.hci.ic.gov", "us-isof-", "us-isof-south-1"),
    Partition("aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu", "eusc-", "eusc-de-east-1"),
    Partition("aws", "amazonaws.com", "api.aws", "", "us-east-1"),  # last: its prefix fits any region
)

_PARTITION_OF_NAME = {partition.name: partition for partition in PARTITIONS}

# Patterns, to be matched against a whole text or to be part of a longer pattern.
REGION_PATTERN = r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}"
QUALIFIER_PATTERN = r"\$LATEST(?:\.PUBLISHED)?|[A-Za-z0-9_-]{1,128}"
FUNCTION_PATTERN = rf"(?P<name>[A-Za-z0-9_.-]{{1,140}})(?::(?P<qualifier>{QUALIFIER_PATTERN}))?"
"""As the Lambda API model has it in FunctionName and Qualifier."""
_PARTITION = "|".join(_PARTITION_OF_NAME)
ROLE_PATTERN = rf"arn:(?:{_PARTITION}):iam::[0-9]{{12}}:role/[\w+=,.@/-]{{1,576}}"

LATEST = "$LATEST"
"""The qualifier of the code that is not published."""

_is_region = re.compile(REGION_PATTERN).fullmatch
_read_name = re.compile(FUNCTION_PATTERN).fullmatch
_read_arn = re.compile(
    rf"arn:(?P<partition>{_PARTITION}):lambda:(?P<region>{REGION_PATTERN}):(?P<account>[0-9]{{12}}):function:{FUNCTION_PATTERN}"
).fullmatch


def partition_of(region: str) -> Partition:
    """Return the partition that a region lies in, by its name."""
    return next(found for found in PARTITIONS if region.startswith(found.region_prefix))


def partition_in(arn: str) -> Partition:
    """Return the partition that an ARN names. Raises KeyError if there is no such partition."""
    return _PARTITION_OF_NAME[arn.split(":")[1]]


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
    def from_name(cls, text: str) -> FunctionName:
        """Read `NAME[:QUALIFIER]`. Raises ValueError that says what was expected."""
        found = _read_name(text)
        if found is None:
            raise ValueError("expected function:NAME[:QUALIFIER]")
        return cls(**found.groupdict())

    @classmethod
    def from_arn(cls, text: str) -> FunctionName:
        """Read `arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]`. Raises ValueError, saying what it
        expects.
        """
        found = _read_arn(text)
        if found is None:
            raise ValueError("expected the ARN of a function: arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]")
        return cls(**found.groupdict())

    @property
    def arn(self) -> str | None:
        """The ARN, with the qualifier; None without an account or a region."""
        unqualified = self._unqualified_arn
        if unqualified is None or self.qualifier is None:
            return unqualified
        return f"{unqualified}:{self.qualifier}"

    def __str__(self) -> str:
        """As messages to clients name it: without account and region."""
        return self.name if self.qualifier is None else f"{self.name}:{self.qualifier}"

    def endpoint_host(
        self, default_region: str | None = None, *, uses_fips: bool = False, uses_dual_stack: bool = False
    ) -> str:
        """Return the Lambda API's host for this function: the usual one, or that with FIPS 140 cryptography, with IPv6
        addresses, or both. An ARN's region wins. Raises ValueError without any.
        """
        region = self.region or default_region
        if region is None:
            raise ValueError(f"function {self} needs a region: set aws.region or use its ARN")
        if _is_region(region) is None:
            raise ValueError(f"{region!r} is not the name of a region, such as eu-west-1")
        partition = self._partition_in(region)
        suffix = partition.dual_stack_suffix if uses_dual_stack else partition.dns_suffix
        return f"{'lambda-fips' if uses_fips else 'lambda'}.{region}.{suffix}"

    def _partition_in(self, region: str) -> Partition:
        if self.partition is not None:
            return _PARTITION_OF_NAME[self.partition]
        return partition_of(region)

    @property
    def invoke_path(self) -> str:
        """The path of Invoke. With an account it holds the ARN, so that a function of another account is found."""
        return _INVOKE_PATH.format(quote(self._unqualified_arn or self.name, safe=""))

    @property
    def configuration_path(self) -> str:
        """The path of GetFunctionConfiguration; its query is that of Invoke."""
        return _CONFIGURATION_PATH.format(quote(self._unqualified_arn or self.name, safe=""))

    @property
    def stream_path(self) -> str:
        """The path of InvokeWithResponseStream; its query is that of Invoke."""
        return _STREAM_PATH.format(quote(self._unqualified_arn or self.name, safe=""))

    @property
    def _unqualified_arn(self) -> str | None:
        if self.account is None or self.region is None:
            return None
        partition = self._partition_in(self.region).name
        return f"arn:{partition}:lambda:{self.region}:{self.account}:function:{self.name}"

    @property
    def invoke_query(self) -> str:
        """The query of Invoke, without `?`; empty without a qualifier."""
        return "" if self.qualifier is None else f"Qualifier={quote(self.qualifier, safe='')}"
