"""Renders routes and the state of the bridge for the status page and /routes, as JSON, text or HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from msgspec import Struct, field, json

from bridge.admin.snapshot import Snapshot, TargetSnapshot
from bridge.config.table import NO_TARGET, format_share
from bridge.routing.router import Router
from bridge.rpc.families import Histogram
from bridge.rpc.figures import MethodCounts
from bridge.rpc.status import OK


class RouteTarget(Struct, frozen=True):
    """One target of a route; several share its calls by weight."""

    target: str
    """As the configuration writes it."""
    weight: float = 1.0


class RouteLine(Struct, frozen=True):
    """One entry of `services`."""

    service: str
    """Its key."""
    targets: tuple[RouteTarget, ...] = ()
    """None: the methods are UNIMPLEMENTED."""
    settings: dict[str, str] = field(default_factory=dict)
    """What differs from the defaults, as the configuration writes it; never a secret."""


class Overview(Struct, frozen=True):
    """The state of the bridge at one moment."""

    version: str
    uptime: float
    """Seconds."""
    listeners: tuple[str, ...]
    unready: tuple[str, ...]
    """Why the bridge takes no calls; empty: it takes them."""
    routes: tuple[RouteLine, ...]
    figures: Snapshot


def routes_as_json(routes: Sequence[RouteLine]) -> bytes:
    return json.format(json.encode({"routes": routes}), indent=2) + b"\n"


def routes_as_text(routes: Sequence[RouteLine]) -> str:
    """One line for each target, in columns."""
    width = max((len(route.service) for route in routes), default=0)
    lines: list[str] = []
    for route in routes:
        name, settings = route.service, _settings_of(route)
        for target in _targets_of(route):
            lines.append(f"{name:<{width}}  {target}  {settings}".rstrip())
            name = settings = ""
    return "".join(f"{line}\n" for line in lines)


def _targets_of(route: RouteLine) -> list[str]:
    if not route.targets:
        return [NO_TARGET]
    if len(route.targets) == 1:
        return [route.targets[0].target]
    whole = sum(target.weight for target in route.targets)
    return [f"{format_share(target.weight, whole)}  {target.target}" for target in route.targets]


def _settings_of(route: RouteLine) -> str:
    return " ".join(f"{key}={value}" for key, value in route.settings.items())


# -- the status page ---------------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #888; --good: #1a7f37; --bad: #cf222e; }
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .dim { color: var(--dim); } .good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--dim); white-space: nowrap; } td.n, th.n { text-align: right; }
td { overflow-wrap: anywhere; }
"""

REFRESH = 10
"""Seconds after which the page loads anew."""

_ROUTE_HEAD = ("Service", "Target", "Settings", "#Calls", "#Errors", "#p50", "#p99")
_METHOD_HEAD = (
    "Method",
    "Type",
    "#Calls",
    "#Errors",
    "#In flight",
    "#p50",
    "#p99",
    "#Upstream p50",
)
_TARGET_HEAD = (
    "Target",
    "#In flight",
    "#Learned limit",
    "#Waiting",
    "#Wait p50",
    "#Wait p99",
    "#Queue refused",
    "#Retries",
    "#Throttled",
    "#Cold starts",
)

_Row = Sequence[str]


def status_page(overview: Overview) -> str:
    """Return the whole page: no script, nothing loaded from elsewhere, every text escaped."""
    figures = overview.figures
    ready = (
        '<p class="bad">Not ready: ' + escape("; ".join(overview.unready)) + "</p>"
        if overview.unready
        else '<p class="good">Ready</p>'
    )
    numbers = (
        f"Connections: {figures.connections_open} of {figures.connections_accepted} accepted ·"
        f" connections refused: {sum(figures.connections_refused.values())} ·"
        f" calls in flight: {figures.streams_open} · buffered: {_size(figures.buffered_bytes)} ·"
        f" calls refused: {sum(figures.refused.values())} ·"
        f" protocol errors: {sum(figures.protocol_errors.values())}"
    )
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="refresh" content="{REFRESH}">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>grpc-lambda-bridge</title><style>{_STYLE}</style></head><body>",
            f'<h1>grpc-lambda-bridge <span class="dim">{escape(overview.version)}</span></h1>',
            ready,
            f'<p class="dim">Up {_duration(overview.uptime)}, listening on',
            f" {escape(', '.join(overview.listeners) or 'nothing')}</p>",
            f'<p class="dim">{numbers}</p>',
            _table("Routes", _ROUTE_HEAD, _route_rows(overview.routes, figures)),
            _table("Methods", _METHOD_HEAD, _method_rows(figures.methods.values())),
            _table("Targets", _TARGET_HEAD, _target_rows(figures.targets)),
            '<p class="dim"><a href="/metrics">metrics</a> · <a href="/routes">routes</a> ·',
            ' <a href="/readyz">readiness</a></p></body></html>\n',
        )
    )


def _route_rows(routes: Sequence[RouteLine], figures: Snapshot) -> list[_Row]:
    router = Router({route.service: route for route in routes})
    sums = {route.service: MethodCounts() for route in routes}
    for path, method in figures.methods.items():
        route = router.match(path)
        if route is not None:
            sums[route.service].add(method)
    return [
        (
            route.service,
            "\n".join(_targets_of(route)),
            _settings_of(route),
            *_counts(sums[route.service]),
            *_latencies(sums[route.service].seconds),
        )
        for route in routes
    ]


def _method_rows(methods: Iterable[MethodCounts]) -> list[_Row]:
    ordered = sorted(methods, key=lambda method: (method.service, method.method))
    return [
        (
            f"{method.service}/{method.method}",
            method.kind,
            *_counts(method),
            str(method.started - sum(method.handled)),
            *_latencies(method.seconds),
            _latency(method.upstream.quantile(0.5)),
        )
        for method in ordered
    ]


def _target_rows(targets: dict[str, TargetSnapshot]) -> list[_Row]:
    return [
        (
            name,
            str(target.in_flight),
            "" if target.limit is None else str(target.limit),
            str(target.queued),
            *_latencies(target.queue_seconds),
            "\n".join(f"{count} {reason}" for reason, count in sorted(target.queue_refused.items())) or "0",
            str(target.retries),
            str(sum(target.throttled.values())),
            str(target.cold_starts),
        )
        for name, target in sorted(targets.items())
    ]


def _counts(method: MethodCounts) -> tuple[str, str]:
    """Return the number of calls begun, and of those that ended with another status than OK."""
    return str(method.started), str(sum(method.handled) - method.handled[OK.code])


def _latencies(histogram: Histogram) -> tuple[str, str]:
    return _latency(histogram.quantile(0.5)), _latency(histogram.quantile(0.99))


def _latency(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds == float("inf"):
        return "> 30 min"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    named = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    shown = [f"{count} {unit}" for count, unit in named if count] or ["0 s"]
    return " ".join(shown[:2])


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


def _table(title: str, head: Sequence[str], rows: Sequence[_Row]) -> str:
    """Return a table, or an empty text if there are no rows. A leading `#` in `head` makes a column of numbers."""
    if not rows:
        return ""
    classes = [' class="n"' if name.startswith("#") else "" for name in head]
    top = "".join(f"<th{cls}>{name.removeprefix('#')}</th>" for cls, name in zip(classes, head, strict=True))
    body = "".join(f"<tr>{_cells(row, classes)}</tr>" for row in rows)
    return f'<h2>{title}</h2><div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cells(row: _Row, classes: Sequence[str]) -> str:
    return "".join(
        f"<td{cls}>{escape(cell).replace(chr(10), '<br>')}</td>" for cls, cell in zip(classes, row, strict=True)
    )
