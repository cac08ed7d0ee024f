"""Lambda's endpoint as the environment gives it: one reading of the variables for everybody that goes by them.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
"""

from __future__ import annotations

from collections.abc import Mapping

_VARIABLES = ("AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL")
"""The first one that is set counts. An empty one counts as unset."""


def endpoint_in(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the variable that sets Lambda's endpoint, and its value, or None if no variable counts."""
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return next(((name, environ[name]) for name in _VARIABLES if environ.get(name)), None)
