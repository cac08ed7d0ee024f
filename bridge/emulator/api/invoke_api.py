"""AWS's Lambda API, as far as the local Lambda serves it, over HTTP; on the same address, the functions' URLs.

HTTP requests come in; invocations go to a Function and what they give back goes out. Refusals become responses here and
nowhere else. This module knows nothing of processes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Coroutine, Mapping
from typing import Annotated, Any
from uuid import uuid4

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bridge.aws.arn import LATEST
from bridge.aws.durable import ARN_HEADER, NAME_HEADER, NAME_RULE, is_execution_name
from bridge.aws.invoke import MAX_CLIENT_CONTEXT, MAX_REQUEST
from bridge.aws.tenancy import TENANT_HEADER, TENANT_RULE, is_tenant
from bridge.config.schema import FunctionConfig
from bridge.emulator.api import event_stream, naming, refusals, signature
from bridge.emulator.api.function_urls import URL_PATH, FunctionUrls
from bridge.emulator.api.naming import FunctionId
from bridge.emulator.api.web_functions import WEB_PATH, WebFunctions
from bridge.emulator.identity import REQUEST_ID_KEY, trace_id_of
from bridge.emulator.instances.environment import is_node, is_python
from bridge.emulator.instances.executions import Outcome
from bridge.emulator.instances.function import Function
from bridge.emulator.instances.invocation import Invocation, Reply
from bridge.rpc.limits import MIB

MAX_EVENT = 1024 * 1024
"""Bytes of an asynchronous payload, exclusive, as for MAX_REQUEST."""
LIMITS = {"RequestResponse": MAX_REQUEST, "DryRun": MAX_REQUEST, "Event": MAX_EVENT}
STREAMED = ("RequestResponse", "DryRun")
"""The types of InvokeWithResponseStream."""
_MAX_SETTINGS = 64 * 1024
"""Bytes of a request that changes a setting."""
MAX_COUNTED = 64 * MAX_REQUEST
"""Bytes after which an endless body is no longer counted to say how long it is."""

SERVED = (
    "The local Lambda serves POST /2015-03-31/functions/NAME/invocations, "
    "POST /2021-11-15/functions/NAME/response-streaming-invocations, GET /2015-03-31/functions, "
    "GET /2015-03-31/functions/NAME, GET /2015-03-31/functions/NAME/configuration, "
    "PUT and DELETE /2017-10-31/functions/NAME/concurrency, GET /2019-09-30/functions/NAME/concurrency, "
    "/lambda-url/NAME/ and /lambda-web/NAME/."
)


_logger = logging.getLogger(__name__)


class _Concurrency(msgspec.Struct):
    """The body of PutFunctionConcurrency."""

    reserved: Annotated[int, msgspec.Meta(ge=0)] = msgspec.field(name="ReservedConcurrentExecutions")


class InvokeApi:
    """`functions` is looked at anew for each request."""

    def __init__(self, functions: Mapping[str, Function], urls: FunctionUrls, web_functions: WebFunctions) -> None:
        self._functions = functions
        self._urls = urls
        self._web_functions = web_functions

    def application(self, *outermost: Middleware) -> web.Application:
        by_host = (self._web_functions.serve_by_host, self._urls.serve_by_host)
        application = web.Application(middlewares=[*outermost, _answer_refusals, *by_host])
        expect = self._web_functions.expect
        application.add_routes(
            [
                web.post("/2015-03-31/functions/{name}/invocations", self._invoke),
                web.get("/2015-03-31/functions", self._list, allow_head=False),
                web.get("/2015-03-31/functions/", self._list, allow_head=False),
                web.get("/2015-03-31/functions/{name}", self._describe, allow_head=False),
                web.get("/2015-03-31/functions/{name}/configuration", self._describe_configuration, allow_head=False),
                web.put("/2017-10-31/functions/{name}/concurrency", self._put_concurrency),
                web.delete("/2017-10-31/functions/{name}/concurrency", self._delete_concurrency),
                web.get("/2019-09-30/functions/{name}/concurrency", self._get_concurrency, allow_head=False),
                web.post(
                    "/2021-11-15/functions/{name}/response-streaming-invocations", self._invoke_with_response_stream
                ),
                web.route("*", URL_PATH, self._urls.serve_by_path),
                web.route("*", WEB_PATH, self._web_functions.serve_by_path, expect_handler=expect),
                web.route("*", "/{path:.*}", _unknown, expect_handler=expect),
            ]
        )
        return application

    # -- Invoke

    async def _invoke(self, request: web.Request) -> web.StreamResponse:
        function, invocation = await self._read(request, tuple(LIMITS))
        name = _execution_name(request)
        match _invocation_type(request):
            case "DryRun":
                return web.Response(status=204)
            case "Event":
                if name is not None:
                    raise refusals.InvalidParameter("The local Lambda runs no durable executions for events")
                function.enqueue(msgspec.structs.replace(invocation, client_context=None))
                return web.Response(status=202)
            case _ if name is not None:
                return await _run_once(function, invocation, name)
            case _:
                return _answer(await _begin(function, invocation), invocation)

    async def _invoke_with_response_stream(self, request: web.Request) -> web.StreamResponse:
        function, invocation = await self._read(request, STREAMED)
        if _invocation_type(request) == "DryRun":
            return web.Response(status=204)
        return await event_stream.run(request, function, invocation)

    async def _read(self, request: web.Request, types: tuple[str, ...]) -> tuple[Function, Invocation]:
        """Read a whole request. Raise a Refusal."""
        function_id, function = self._find(request)
        invocation_type = _invocation_type(request)
        if invocation_type not in types:
            raise refusals.InvalidParameter(f"X-Amz-Invocation-Type must be one of {', '.join(types)}")
        invocation = Invocation(
            request_id=request[REQUEST_ID_KEY],
            payload=await _read_payload(request, invocation_type),
            arn=function_id.arn,
            trace_id=trace_id_of(request),
            client_context=_client_context(request),
            wants_log=_wants_log(request),
            tenant=_tenant(request, function.config),
        )
        return function, invocation

    def _find(self, request: web.Request) -> tuple[FunctionId, Function]:
        signature.check_signature(request.headers)
        function_id = naming.parse_function_name(request.match_info["name"], request.query.get("Qualifier"))
        function = self._functions.get(function_id.name)
        if function is None or function_id.is_published_version:
            raise refusals.ResourceNotFound(function_id.arn)
        return function_id, function

    # -- ListFunctions, GetFunction, GetFunctionConfiguration

    async def _list(self, request: web.Request) -> web.StreamResponse:
        signature.check_signature(request.headers)
        described = [_described(function.config) for function in self._functions.values()]
        return web.json_response({"Functions": described})

    async def _describe(self, request: web.Request) -> web.StreamResponse:
        _, function = self._find(request)
        return web.json_response(
            {
                "Configuration": _described(function.config),
                "Code": {"RepositoryType": "local", "Location": function.config.code.as_uri()},
                "Concurrency": {"ReservedConcurrentExecutions": function.concurrency},
            }
        )

    async def _describe_configuration(self, request: web.Request) -> web.StreamResponse:
        _, function = self._find(request)
        return web.json_response(_described(function.config))

    # -- PutFunctionConcurrency, DeleteFunctionConcurrency, GetFunctionConcurrency

    async def _put_concurrency(self, request: web.Request) -> web.StreamResponse:
        """Change the limit of a function while it runs. 0 throttles every invocation."""
        _, function = self._find(request)
        function.reserve(await _read_concurrency(request))
        return web.json_response({"ReservedConcurrentExecutions": function.concurrency})

    async def _delete_concurrency(self, request: web.Request) -> web.StreamResponse:
        _, function = self._find(request)
        function.reserve(None)
        return web.Response(status=204)

    async def _get_concurrency(self, request: web.Request) -> web.StreamResponse:
        _, function = self._find(request)
        return web.json_response({"ReservedConcurrentExecutions": function.concurrency})


def _begin(function: Function, invocation: Invocation) -> Coroutine[Any, Any, Outcome]:
    """Start an invocation. It goes on, whatever becomes of the one who waits for its outcome. Raise Throttled."""
    reply = Reply()
    return _outcome(reply, function.begin(invocation, reply))


async def _outcome(reply: Reply, task: asyncio.Task[bytes]) -> Outcome:
    body = await reply.whole()
    log_tail = await asyncio.shield(task)
    return Outcome(body, "application/json" if reply.failure else reply.content_type, reply.failure, log_tail)


async def _run_once(function: Function, invocation: Invocation, name: str) -> web.Response:
    """Run a durable execution, or wait for the one of this name."""
    executions = function.executions
    execution = executions.find(name, invocation)
    if execution is None:
        execution = executions.begin(name, invocation, _begin(function, invocation))
    response = _answer(await asyncio.shield(execution.outcome), invocation)
    arn = FunctionId(function.config.name, LATEST).arn
    response.headers[ARN_HEADER] = f"{arn}/durable-execution/{name}/{execution.id}"
    return response


def _answer(outcome: Outcome, invocation: Invocation) -> web.Response:
    headers = {
        "X-Amz-Executed-Version": LATEST,
        "X-Amzn-Trace-Id": invocation.trace_id,
    }
    if outcome.failure is not None:
        headers["X-Amz-Function-Error"] = "Unhandled"
    if invocation.wants_log:
        headers["X-Amz-Log-Result"] = b64encode(outcome.log_tail).decode()
    return web.Response(body=outcome.body, headers={**headers, "Content-Type": outcome.content_type})


async def _unknown(request: web.Request) -> web.StreamResponse:
    raise refusals.UnknownOperation(f"{request.method} {request.path} is not served here. {SERVED}")


@web.middleware
async def _answer_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[REQUEST_ID_KEY] = request_id = str(uuid4())
    try:
        response = await handler(request)
    except refusals.ApiRefusal as refusal:
        response = _refused(refusal)
    except (web.RequestPayloadError, ConnectionError):
        response = _refused(refusals.InvalidRequestContent("The request ended before its body"))
    except Exception:
        # The outermost frame of a request's task.
        _logger.exception("the local Lambda failed on %s %s", request.method, request.path)
        response = _refused(refusals.ServiceException())
    response.headers["x-amzn-RequestId"] = request_id
    return response


def _refused(refusal: refusals.ApiRefusal) -> web.Response:
    return web.Response(
        status=refusal.http_status,
        body=refusal.body,
        content_type="application/json",
        headers={"x-amzn-ErrorType": refusal.error_type, **refusal.headers},
    )


# -- what a request says


def _invocation_type(request: web.Request) -> str:
    return request.headers.get("X-Amz-Invocation-Type", "RequestResponse")


async def _read_payload(request: web.Request, invocation_type: str) -> bytes:
    limit = LIMITS[invocation_type]
    if request.content_length is not None and request.content_length >= limit:
        raise refusals.RequestTooLarge(request.content_length, limit, invocation_type)
    payload = bytearray()
    size = 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size < limit:
            payload += chunk
        elif size > MAX_COUNTED:
            break
    if size >= limit:
        raise refusals.RequestTooLarge(size, limit, invocation_type)
    return _checked_json(bytes(payload)) if payload else b"{}"


async def _read_concurrency(request: web.Request) -> int:
    """Raise a Refusal for anything but a number."""
    body = b""
    while len(body) <= _MAX_SETTINGS and (chunk := await request.content.readany()):
        body += chunk
    try:
        return msgspec.json.decode(body, type=_Concurrency).reserved
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise refusals.InvalidParameter("ReservedConcurrentExecutions must be a number that is not negative") from None


def _checked_json(payload: bytes) -> bytes:
    try:
        payload.decode()
        msgspec.json.decode(payload, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise refusals.InvalidRequestContent(
            f"Could not parse request body into json: Could not parse payload into json: {error}"
        ) from None
    return payload


def _client_context(request: web.Request) -> str | None:
    text = request.headers.get("X-Amz-Client-Context")
    if not text:
        return None
    if len(text) > MAX_CLIENT_CONTEXT:
        raise refusals.InvalidRequestContent(
            f"Client context must be no more than {MAX_CLIENT_CONTEXT} bytes when base64-encoded."
        )
    try:
        context = json.loads(b64decode(text, validate=True))
        if isinstance(context, dict):
            # ASCII on one line: it travels on in a header of the Runtime API.
            return json.dumps(context, separators=(",", ":"))
    except (NotBase64, ValueError, RecursionError):
        pass
    raise refusals.InvalidRequestContent("Client context must be a valid Base64-encoded JSON object.")


def _execution_name(request: web.Request) -> str | None:
    name = request.headers.get(NAME_HEADER)
    if name is None:
        return None
    if not is_execution_name(name):
        raise refusals.InvalidParameter(f"X-Amz-Durable-Execution-Name must be {NAME_RULE}")
    function_id = naming.parse_function_name(request.match_info["name"], request.query.get("Qualifier"))
    if function_id.qualifier is None:
        raise refusals.InvalidParameter(
            "A durable execution needs a qualified function: a version, an alias or $LATEST"
        )
    return name


def _tenant(request: web.Request, config: FunctionConfig) -> str | None:
    values = request.headers.getall(TENANT_HEADER, [])
    if not values:
        if config.tenants:
            raise refusals.NoTenant
        return None
    if not config.tenants:
        raise refusals.UnexpectedTenant
    tenant = ",".join(values)
    if not is_tenant(tenant):
        raise refusals.InvalidParameter(f"X-Amz-Tenant-Id must be {TENANT_RULE}")
    return tenant


def _wants_log(request: web.Request) -> bool:
    log_type = request.headers.get("X-Amz-Log-Type", "None")
    if log_type not in ("None", "Tail"):
        raise refusals.InvalidParameter("X-Amz-Log-Type must be None or Tail")
    return log_type == "Tail"


# -- what a function looks like


def _described(config: FunctionConfig) -> dict[str, object]:
    """Return the members of FunctionConfiguration that have a meaning here. `env` stays out: it may hold secrets."""
    tenancy = {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}} if config.tenants else {}
    return {
        **tenancy,
        "FunctionName": config.name,
        "FunctionArn": FunctionId(config.name).arn,
        "Runtime": _runtime_of(config),
        "Handler": config.handler or "bootstrap",
        "Timeout": math.ceil(config.timeout),
        "MemorySize": math.ceil(config.memory / MIB),
        "Version": LATEST,
        "PackageType": "Zip",
        "State": "Active",
        "LastUpdateStatus": "Successful",
    }


def _runtime_of(config: FunctionConfig) -> str:
    if is_node(config):
        return "nodejs"
    return "python" if is_python(config) else "provided.al2023"
