"""What `make conformance` runs: each setting is one run of the suite, against one way through the bridge or
lambda_fn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.conformance.connectrpc.server import FUNCTION, SERVICE
from tests.support.programs import free_port

KNOWN = Path(__file__).with_name("known")
"""For each setting that has any, the cases that fail, or that fail at times, each with its reason."""

Features = dict[str, Any]
"""What the suite shall try: the message of that name in its config.proto."""

# The client of all these settings is the suite's. A call through Invoke cannot answer before its request is whole,
# unless the function connects to the bridge.
_STREAMS = ("UNARY", "CLIENT_STREAM", "SERVER_STREAM", "HALF_DUPLEX_BIDI_STREAM")


def _grpc(
    *, codec: str = "PROTO", compression: str = "GZIP", streams: tuple[str, ...] = _STREAMS, tls: bool = False
) -> Features:
    return {
        "versions": ["HTTP_VERSION_2"],
        "protocols": ["PROTOCOL_GRPC"],
        "codecs": [f"CODEC_{codec}"],
        "compressions": ["COMPRESSION_IDENTITY", f"COMPRESSION_{compression}"],
        "streamTypes": [f"STREAM_TYPE_{name}" for name in streams],
        "supportsTls": tls,
        "supportsTlsClientCerts": tls,
    }


_FULL_DUPLEX = _grpc(streams=(*_STREAMS, "FULL_DUPLEX_BIDI_STREAM"))
_WEB: Features = {
    "versions": ["HTTP_VERSION_1"],
    "codecs": ["CODEC_PROTO"],
    "supportsTls": False,
    "supportsHalfDuplexBidiOverHttp1": True,
}


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    way: str
    """A name in server.WAYS; of a client the scheme of the bridge's target."""
    features: Features
    target: dict[str, Any] | None = None
    """Of the service, where the bridge needs to be told; `{url}` stands for the function's URL in the local Lambda."""
    config: dict[str, Any] = field(default_factory=dict)
    """The rest of the bridge's configuration."""
    mode: Literal["server", "client"] = "server"
    connects: bool = False
    """Whether the function takes calls in full duplex."""

    @property
    def known(self) -> dict[str, Path]:
        """Files of patterns, by what the suite calls their cases."""
        return {what: KNOWN / f"{self.name}.{what}.txt" for what in ("failing", "flaky")}

    def bridge(self, emulator: str) -> dict[str, Any]:
        """The configuration of the bridge, with the local Lambda that runs the function at `emulator`."""
        config = {"emulator": emulator, **self.config}
        if self.connects:
            config["duplex"] = {"listen": f"127.0.0.1:{free_port()}"}
        if self.target is None:
            return config
        url = f"{emulator}/lambda-url/{FUNCTION}"
        target = {
            name: value.replace("{url}", url) if isinstance(value, str) else value
            for name, value in self.target.items()
        }
        return {**config, "services": {SERVICE: target}}


def _invoke(
    name: str, features: Features | None = None, *, config: dict[str, Any] | None = None, **keys: str
) -> Setting:
    target = {"target": f"local:{FUNCTION}", **keys}
    return Setting(name, "bridge", features or _grpc(), target, config or {})


SETTINGS = (
    _invoke("buffered", _grpc(tls=True)),
    _invoke("streamed", invoke_mode="response_stream"),
    _invoke("http-v1", event="http-v1"),
    _invoke("alb", event="alb"),
    _invoke("inflating", compression="identity"),
    _invoke("json", _grpc(codec="JSON")),
    _invoke("deflate", _grpc(compression="DEFLATE")),
    _invoke("engine-h2", config={"http2": {"engine": "h2"}}),
    Setting("http-target", "bridge", _grpc(), {"target": "{url}"}),
    Setting("grpc-target", "bridge-to-grpc", _FULL_DUPLEX),
    Setting(
        "duplex",
        "bridge",
        _FULL_DUPLEX,
        {"target": f"local:{FUNCTION}", "duplex": {"use": "always"}},
        connects=True,
    ),
    Setting(
        "function-url",
        "function-url",
        {**_WEB, "protocols": ["PROTOCOL_CONNECT", "PROTOCOL_GRPC_WEB"], "codecs": ["CODEC_PROTO", "CODEC_JSON"]},
    ),
    Setting(
        "serve",
        "serve",
        {**_WEB, "protocols": ["PROTOCOL_CONNECT", "PROTOCOL_GRPC_WEB"], "codecs": ["CODEC_PROTO", "CODEC_JSON"]},
    ),
    Setting("http-client", "http", {**_WEB, "protocols": ["PROTOCOL_GRPC_WEB"]}, mode="client"),
    # Messages travel plain between the bridge and the server. With gzip the suite's server would call that a fault each
    # time.
    Setting("grpc-client", "grpc", {**_FULL_DUPLEX, "compressions": ["COMPRESSION_IDENTITY"]}, mode="client"),
)
