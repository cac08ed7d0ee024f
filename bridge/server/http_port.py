"""What the process's HTTP ports share, which aiohttp serves: their log, their bounds, and whom they answer.

Not imported where no such port is opened: aiohttp takes a tenth of a second.
"""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from bridge.server.hosts import Hosts


def refusal_of(request: web.BaseRequest, hosts: Hosts, *, takes_any_origin: bool = False) -> str | None:  # fmt: skip
    """Why this request is not answered, going by the host it names and the page that it comes from; None: it is."""
    authorities = request.headers.getall(hdrs.HOST, [])
    scheme, is_whole_url, rest = request.raw_path.partition("://")
    if is_whole_url and scheme.isalpha():  # RFC 9112 3.2.2
        authorities = [*authorities, rest.partition("/")[0].partition("?")[0]]
    origins = [] if takes_any_origin else request.headers.getall(hdrs.ORIGIN, [])
    return hosts.refusal(authorities, origins)


class HttpServerLog(logging.LoggerAdapter[logging.Logger]):
    """A logger for `web.Server` and `web.AppRunner`.

    aiohttp logs each request that it cannot parse, and each client that hangs up during its answer, as an error with a
    traceback. Any client could fill the log with them.
    """

    def __init__(self) -> None:
        super().__init__(logging.getLogger("aiohttp.server"))

    def exception(self, msg: object, *args: object, exc_info: Any = True, **rest: Any) -> None:
        if isinstance(exc_info, HttpProcessingError):
            said = exc_info.message.splitlines()
            self.debug(f"{msg}: %s", *args, said[0] if said else type(exc_info).__name__)
        elif isinstance(exc_info, ConnectionError):
            self.debug(f"{msg}: the client has gone", *args)
        else:
            super().exception(msg, *args, exc_info=exc_info, **rest)
