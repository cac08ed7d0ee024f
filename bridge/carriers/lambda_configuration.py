"""GetFunctionConfiguration: what AWS says of a function. `check --live` asks; calls never do.

https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConfiguration.html
"""

from __future__ import annotations

from typing import Unpack

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from bridge.aws.arn import FunctionName
from bridge.carriers.lambda_api import Access, LambdaApi


class _Configuration(Struct):
    Timeout: int | None = None


_decode = Decoder(_Configuration).decode


class LambdaConfiguration:
    """One function's configuration."""

    def __init__(self, function: FunctionName, **access: Unpack[Access]) -> None:
        self._api = LambdaApi(function, function.configuration_path, method="GET", **access)

    async def timeout(self) -> float | None:
        """Return the longest time of an invocation (seconds), None if the answer does not say.

        Raises as LambdaInvoke.invoke does. Callers need lambda:GetFunctionConfiguration.
        """
        response = await self._api.exchange(b"")
        try:
            return _decode(response.body).Timeout
        except (DecodeError, UnicodeDecodeError):
            return None
