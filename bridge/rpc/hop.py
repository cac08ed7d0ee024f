"""What one hop does to header fields: which names it drops, which it makes anew and which it passes, on each leg of a
call.

One table for all legs, and the one way to write down who called. Prefixes (`grpc-`, `x-amz`) and values are left to
those who read or write the fields of a leg.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from urllib.parse import quote

from bridge.rpc.call import ClientCertificate, Peer
from bridge.rpc.metadata import clean_value

AMAZON = "x-amz"
TRACE_ID = "x-amzn-trace-id"
"""What names begin with that are AWS's, and the one of them that a client may send."""


USER_AGENT = "grpc-lambda-bridge"
"""What the bridge calls itself to the next hop."""


class Action(Enum):
    """What happens to a field that was sent under a name."""

    PASSED = "-"
    DROP = "drop"
    ANEW = "anew"
    """What was sent goes no further. The field is written anew where the next hop needs one."""
    JOIN = "join"
    """All values that were sent become one, to which this hop may add its own."""


class Leg(IntEnum):
    """Where fields come from and where they go. The numbers are columns of the table."""

    CALL = 0
    """From a client into a call's metadata."""
    EVENT = 1
    """From the metadata into an event for a function."""
    HTTP = 2
    """From the metadata into an HTTP request."""
    GRPC = 3
    """From the metadata into a call on a gRPC server."""
    REPLY = 4
    """From a function or an HTTP server to the client."""
    GRPC_REPLY = 5
    """From a gRPC server to the client."""
    CONFIGURED = 6
    """From the configuration's `headers` into a request: a name that does not pass is refused."""
    FUNCTION_URL = 7
    """From a request into an event, by a function URL of AWS (which the local Lambda imitates)."""


# RFC 9110 7.6.1 says which names belong to one connection: those come first.
# Common runtimes build a URL of host and x-forwarded-proto, and crash on odd ones. A content coding would change the
# body. A client's x-forwarded-client-cert would vouch for a certificate that nobody has seen.
_TABLE = """
                        call event http grpc reply grpc-reply configured function-url
connection              drop drop  drop drop drop  drop       drop       drop
http2-settings          drop drop  drop drop drop  drop       -          -
keep-alive              drop drop  drop drop drop  drop       drop       drop
proxy-authenticate      drop drop  drop drop drop  drop       -          -
proxy-authorization     drop drop  drop drop drop  drop       drop       -
proxy-connection        drop drop  drop drop drop  drop       drop       drop
te                      drop drop  drop drop drop  drop       drop       drop
trailer                 drop drop  drop drop drop  drop       drop       drop
trailers                drop drop  drop drop drop  drop       -          -
transfer-encoding       drop drop  drop drop drop  drop       drop       drop
upgrade                 drop drop  drop drop drop  drop       drop       drop

accept                  -    anew  anew -    -     -          -          -
accept-encoding         -    anew  anew -    -     -          -          -
content-encoding        -    drop  drop -    -     -          drop       -
content-length          drop drop  anew -    -     -          anew       -
content-type            anew anew  anew -    anew  anew       anew       -
cookie                  -    join  join -    -     -          -          anew
date                    -    -     -    -    drop  -          -          -
expect                  -    drop  drop -    -     -          drop       drop
grpc-accept-encoding    -    -     -    anew -     -          -          -
grpc-encoding           -    -     -    anew -     -          -          -
grpc-timeout            anew anew  anew -    -     -          -          -
host                    anew anew  anew drop -     -          anew       -
server                  -    -     -    -    drop  -          -          -
user-agent              -    -     join anew -     -          anew       -
via                     -    -     -    -    drop  -          -          -
x-cache                 -    -     -    -    drop  -          -          -
x-forwarded-client-cert -    anew  anew anew -     -          -          -
x-forwarded-for         -    join  join join -     -          -          join
x-forwarded-host        -    -     anew anew -     -          -          -
x-forwarded-port        -    anew  drop -    -     -          -          anew
x-forwarded-proto       -    anew  drop -    -     -          -          anew
x-grpc-web              -    anew  anew -    -     -          -          -
"""


def _columns(table: str) -> tuple[tuple[tuple[str, Action], ...], ...]:
    """For each leg the names and what happens to them."""
    rows = [line.split() for line in table.splitlines() if line][1:]
    return tuple(tuple((name, Action(actions[leg])) for name, *actions in rows) for leg in Leg)


_ACTIONS = _columns(_TABLE)


def names(leg: Leg, *actions: Action) -> frozenset[str]:
    """Return the names to which one of these things happens on this leg. A name that is not in the table passes."""
    return frozenset(name for name, action in _ACTIONS[leg] if action in actions)


def not_passed(leg: Leg) -> frozenset[str]:
    """Return the names whose fields do not go on as they were sent."""
    return names(leg, Action.DROP, Action.ANEW, Action.JOIN)


def forwarded_for(earlier: str | None, peer: Peer) -> str:
    """Return an x-forwarded-for: the hops that came before, then the IP address that this one was called from.

    Who comes over a Unix socket or uses the call console is on this machine.
    """
    source = "127.0.0.1" if peer.address in ("unix", "console") else peer.address
    return f"{earlier}, {source}" if earlier else source


def source_of(peer: Peer) -> str:
    """Return the peer's IP address, as the first hop would write it."""
    return forwarded_for(None, peer)


def forwarded_cert(certificate: ClientCertificate) -> str:
    """Return a verified client certificate as Envoy's x-forwarded-client-cert has it."""
    subject = clean_value(certificate.subject).replace("\\", r"\\").replace('"', r"\"")
    return f'Cert="{quote(certificate.pem, safe="")}";Subject="{subject}"'
