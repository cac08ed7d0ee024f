"""What aiohttp's servers say in the log: our own faults. What clients do wrong is answered, and logged at debug without a traceback."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError


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
