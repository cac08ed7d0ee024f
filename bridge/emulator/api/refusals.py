"""The errors of the Invoke API and of function URLs, as AWS sends them: status, error type, JSON body, headers.

Each class is one cause; it is raised where the fact is known and becomes an HTTP response in one place (`invoke_api`).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import json

from bridge.aws.invoke import MAX_REQUEST


class ApiRefusal(Exception):
    """The function does not run. `str(refusal)` is the message that the caller reads."""

    http_status = 400
    error_type = "InvalidParameterValueException"
    message_key = "message"
    """AWS spells it `Message` in some of its bodies; its SDKs read both."""

    @property
    def fields(self) -> Mapping[str, str]:
        """What the body says besides the message."""
        return {"Type": "User"}

    @property
    def headers(self) -> Mapping[str, str]:
        return {}

    @property
    def body(self) -> bytes:
        return json.encode({**self.fields, self.message_key: str(self)})


class MissingAuthentication(ApiRefusal):
    """No `Authorization` header: the request is not signed."""

    http_status = 403
    error_type = "MissingAuthenticationTokenException"

    def __init__(self) -> None:
        super().__init__("Missing Authentication Token")


class IncompleteSignature(ApiRefusal):
    """An `Authorization` header that is no AWS signature. The message does not repeat it: it may hold a secret."""

    http_status = 403
    error_type = "IncompleteSignatureException"


class Misdirected(ApiRefusal):
    """The request names a host that is not this one, or comes from a web page. The message says what helps."""

    http_status = 403
    error_type = "AccessDeniedException"
    message_key = "Message"


class InvalidName(ApiRefusal):
    """A function name that is neither a name nor an ARN."""

    error_type = "ValidationException"

    def __init__(self) -> None:
        super().__init__(
            "1 validation error detected: Value at 'functionName' failed to satisfy constraint: "
            "Member must be a function name, a partial ARN or an ARN"
        )


class QualifierMismatch(ApiRefusal):
    """The URL and the function's name ask for different versions."""

    def __init__(self) -> None:
        super().__init__("The derived qualifier from the function name does not match the specified qualifier.")


class ResourceNotFound(ApiRefusal):
    """There is no function of this name."""

    http_status = 404
    error_type = "ResourceNotFoundException"
    message_key = "Message"

    def __init__(self, arn: str) -> None:
        super().__init__(f"Function not found: {arn}")


class UnknownOperation(ApiRefusal):
    """A path or method that the local Lambda does not serve."""

    http_status = 404
    error_type = "UnknownOperationException"
    message_key = "Message"


class InvalidParameter(ApiRefusal):
    """A header with a value that the API does not know."""


class InvalidRequestContent(ApiRefusal):
    """A payload or a client context that cannot be read."""

    error_type = "InvalidRequestContentException"


class RequestTooLarge(ApiRefusal):
    """The payload is above AWS's limit for Invoke."""

    http_status = 413
    error_type = "RequestEntityTooLargeException"
    message_key = "Message"

    def __init__(self, size: int, limit: int, invocation_type: str) -> None:
        super().__init__(
            f"{size} byte payload is too large for the {invocation_type} invocation type (limit {limit} bytes)"
        )


class TooManyRequests(ApiRefusal):
    """All instances that the function may have are busy, or its queue of events is full."""

    http_status = 429
    error_type = "TooManyRequestsException"

    def __init__(self, reason: str = "ReservedFunctionConcurrentInvocationLimitExceeded") -> None:
        super().__init__("Rate Exceeded.")
        self._reason = reason

    @property
    def fields(self) -> Mapping[str, str]:
        return {"Reason": self._reason, "Type": "User"}

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": "1"}


class TooManyEnvironments(TooManyRequests):
    """The tenants of a function have all instances that there may be. AWS gives no reason of its own for it."""

    @property
    def fields(self) -> Mapping[str, str]:
        return {"Type": "User"}


class NoTenant(ApiRefusal):
    """The function has tenants, and the invocation names none."""

    def __init__(self) -> None:
        super().__init__(
            "The invoked function is enabled with tenancy configuration."
            " Add a valid tenant ID in your request and try again."
        )


class UnexpectedTenant(ApiRefusal):
    """The invocation names a tenant, and the function has none."""

    def __init__(self) -> None:
        super().__init__(
            "The invoked function is not enabled with tenancy configuration."
            " Remove the tenant ID from your request and try again."
        )


class ExecutionExists(ApiRefusal):
    """A durable execution of this name began with another payload."""

    http_status = 409
    error_type = "DurableExecutionAlreadyStartedException"
    message_key = "Message"

    def __init__(self, name: str) -> None:
        super().__init__(f"A durable execution named {name} has already been started with another payload")


class ServiceException(ApiRefusal):
    """The local Lambda itself failed; its log says how."""

    http_status = 500
    error_type = "ServiceException"
    message_key = "Message"

    def __init__(self) -> None:
        super().__init__("The local Lambda failed, see its log.")

    @property
    def fields(self) -> Mapping[str, str]:
        return {"Type": "Service"}


class UrlRefusal(ApiRefusal):
    """A function URL's answer; it says little, since anybody may read it. What was wrong stands in the
    function's log.
    """

    message_key = "Message"

    @property
    def fields(self) -> Mapping[str, str]:
        return {}


class Forbidden(UrlRefusal):
    """A URL with `auth: iam`, and a request that is not signed rightly."""

    http_status = 403
    error_type = "AccessDeniedException"

    def __init__(self) -> None:
        super().__init__("Forbidden")


class NoUrl(UrlRefusal):
    """No such function, or one without `url`. AWS has no message for it."""

    http_status = 403
    error_type = "AccessDeniedException"

    @property
    def body(self) -> bytes:
        return b'{"Message":null}'


class UrlRequestTooLarge(UrlRefusal):
    """The request is above AWS's limit for function URLs."""

    http_status = 413
    error_type = "RequestEntityTooLargeException"

    def __init__(self) -> None:
        super().__init__(f"Request must be smaller than {MAX_REQUEST} bytes for the InvokeFunction operation")


class NoHttpReply(UrlRefusal):
    """The function failed, or its reply is not an HTTP response."""

    http_status = 502
    error_type = "InternalServerErrorException"

    @property
    def body(self) -> bytes:
        return b"Internal Server Error"
