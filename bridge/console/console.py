"""The console of one process: it answers the page's questions about methods, and makes the page's calls.

Each question and each call has a socket of its own. The page itself is served by the admin server, which may be in
another process.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable

from google.protobuf.descriptor import MethodDescriptor

from bridge.console.call import Attach, ConsoleCall
from bridge.console.conversation import (
    Answer,
    BadLine,
    BeginCall,
    CallRefused,
    Conversation,
    DescribeMethod,
    DescribeService,
    ListServices,
    Services,
    ServiceShown,
)
from bridge.console.forms import form_of, methods_of
from bridge.conversion.converter import Conversions, MessageConverter
from bridge.rpc.buffers import Buffers
from bridge.services.descriptors import Descriptors
from bridge.services.errors import NotDescribed
from bridge.services.sources import Sources

MOST_AT_ONCE = 16
"""Questions and calls of one process."""
_MOST_SERVICES = 2000
_MOST_METHODS = 20_000
"""Methods of all services that are listed at once. A person who chooses a service further down asks for its own."""
_MOST_CONVERTERS = 4
"""Sets of descriptors that stay known to the processes that convert."""
_FIRST_LINE_SECONDS = 10.0

_logger = logging.getLogger(__name__)


class Console:
    """Belongs to the running loop."""

    def __init__(
        self,
        *,
        sources: Callable[[], Sources],
        conversions: Conversions,
        buffers: Buffers,
        attach: Attach,
        version: str,
    ) -> None:
        """Take `sources`, which gives those of the configuration in force, and `attach`, which makes a socket a
        connection of the server.
        """
        self._sources = sources
        self._buffers = buffers
        self._attach = attach
        self._user_agent = f"grpc-lambda-bridge-console/{version}"
        self._converters = _Converters(conversions)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def serve(self, sock: socket.socket) -> None:
        """Take a socket, and answer what the page says over it. Without room for more the socket is closed."""
        if self._is_closed or len(self._tasks) >= MOST_AT_ONCE:
            sock.close()
            return
        task = asyncio.get_running_loop().create_task(self._converse(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all calls. Fine at any time, and twice."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._converters.close()

    async def _converse(self, sock: socket.socket) -> None:
        page = await Conversation.over(sock)
        try:
            async with asyncio.timeout(_FIRST_LINE_SECONDS):
                line = await page.hear()
            match line:
                case BeginCall():
                    await self._call(line, page)
                case None:
                    return
                case ListServices():
                    await page.tell(await asyncio.to_thread(self._list, self._sources()))
                case DescribeService(service):
                    await page.tell(await self._describe(service))
                case DescribeMethod(service, method):
                    await page.tell(await self._form(service, method))
                case _:
                    await page.tell(CallRefused("no call is under way"))
        except BadLine as error:
            await page.tell(CallRefused(str(error)))
        except NotDescribed as error:
            await page.tell(CallRefused(str(error)))
        except TimeoutError:
            return
        except Exception:  # the task's outermost frame
            _logger.exception("a bug in the console of the status page")
            await page.tell(CallRefused("a bug in the console: the bridge's log has its traceback"))
        finally:
            page.close()

    # -- questions -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _list(sources: Sources) -> Services:
        """Return what is known already. In a thread: large sets of descriptors take a while."""
        shown, left = [], _MOST_METHODS
        for name in sources.services()[:_MOST_SERVICES]:
            found = sources.at_hand(name) if left > 0 else None
            methods = None if found is None else methods_of(found, name)
            left -= len(methods or ())
            shown.append(ServiceShown(name, methods))
        return Services(shown)

    async def _describe(self, service: str) -> Answer:
        descriptors = await self._sources().describing(service)
        methods = methods_of(descriptors, service)
        if methods is None:
            return CallRefused(f"{service[:200]} is not a service")
        return Services([ServiceShown(service, methods)])

    async def _form(self, service: str, method: str) -> Answer:
        _, found = await self._method(service, method)
        return await asyncio.to_thread(form_of, found)

    async def _method(self, service: str, method: str) -> tuple[Descriptors, MethodDescriptor]:
        """Return a method with the descriptors that define it. Raises NotDescribed."""
        descriptors = await self._sources().describing(f"{service}.{method}")
        found = descriptors.find_method(service, method)
        if found is None:
            raise NotDescribed(f"{service[:200]} has no method {method[:200]}")
        return descriptors, found

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def _call(self, begin: BeginCall, page: Conversation) -> None:
        descriptors, method = await self._method(begin.service, begin.method)
        with self._converters.use(descriptors) as converter:
            call = ConsoleCall(
                begin,
                page,
                converter=converter,
                types=(method.input_type.full_name, method.output_type.full_name),
                buffers=self._buffers,
                user_agent=self._user_agent,
            )
            await call.run(self._attach)


class _Shared:
    """A converter, and how many calls use it. The last user closes one that is no longer kept."""

    def __init__(self, converter: MessageConverter, descriptors: Descriptors) -> None:
        self.descriptors = descriptors
        self._converter = converter
        self._users = 0
        self._is_kept = True

    def __enter__(self) -> MessageConverter:
        self._users += 1
        return self._converter

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        self._close_if_unused()

    def let_go(self) -> None:
        self._is_kept = False
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._is_kept and not self._users:
            self._converter.close()


class _Converters:
    """Keeps the converters of the descriptors that were used last."""

    def __init__(self, conversions: Conversions) -> None:
        self._conversions = conversions
        self._known: OrderedDict[int, _Shared] = OrderedDict()
        """By identity of the descriptors."""

    def use(self, descriptors: Descriptors) -> _Shared:
        key = id(descriptors)
        found = self._known.pop(key, None)
        if found is None:
            found = _Shared(self._conversions.messages(descriptors), descriptors)
        self._known[key] = found
        if len(self._known) > _MOST_CONVERTERS:
            _, oldest = self._known.popitem(last=False)
            oldest.let_go()
        return found

    def close(self) -> None:
        while self._known:
            self._known.popitem()[1].let_go()
