"""`tenant`: where the tenant of a call comes from, and what is refused or warned of."""

from pathlib import Path

import pytest

from bridge.aws.tenancy import TENANT_RULE
from bridge.config.tenant import TenantSource
from tests.support.configured import configured, leg, problems

EXPECTED = "the name of a tenant, {metadata: NAME}, {certificate: uri} or {certificate: cn}"


def _written(tenant: str, more: str = "") -> str:
    return f"services: {{a.B: {{target: 'function:f', tenant: {tenant}{more}}}}}"


@pytest.mark.parametrize(
    ("source", "written"),
    [
        (TenantSource(metadata="x-tenant"), "{metadata: x-tenant}"),
        (TenantSource(metadata="x-tenant"), "{metadata: X-Tenant}"),
        (TenantSource(certificate="uri"), "{certificate: uri}"),
        (TenantSource(certificate="cn"), "{certificate: cn}"),
        (TenantSource(constant="acme"), "acme"),
        (TenantSource(constant="7"), "7"),
        (TenantSource(constant="spiffe://a/b c"), "'spiffe://a/b c'"),
        (None, "null"),
    ],
)
def test_sources(source: TenantSource | None, written: str) -> None:
    assert source == leg(_written(written)).tenant


@pytest.mark.parametrize(
    ("problem", "written"),
    [
        ('tenant: needs either "metadata" or "certificate"', "{}"),
        ('tenant: needs either "metadata" or "certificate"', "{metadata: x, certificate: cn}"),
        ('tenant: needs either "metadata" or "certificate"', "{metadata: null}"),
        ("tenant.header: unknown key", "{header: x}"),
        ('tenant.metadata: expected the name of a metadata key, found "x tenant"', "{metadata: x tenant}"),
        (
            "tenant.metadata: the value must be text, and metadata whose name ends in -bin has bytes",
            "{metadata: x-bin}",
        ),
        (
            "tenant.metadata: x-amz… names are AWS's: what a client sends under them never counts",
            "{metadata: X-Amz-Tenant-Id}",
        ),
        ('tenant.metadata: clients cannot send metadata named "grpc-tenant"', "{metadata: grpc-tenant}"),
        ('tenant.metadata: clients cannot send metadata named "te"', "{metadata: te}"),
        ('tenant.certificate: expected uri or cn, found "dns"', "{certificate: dns}"),
        (f'tenant: expected {EXPECTED}; a tenant is {TENANT_RULE}; found "a,b"', "'a,b'"),
        (f'tenant: expected {EXPECTED}; a tenant is {TENANT_RULE}; found ""', "''"),
        (f"tenant: expected {EXPECTED}, found a list", "[a]"),
    ],
)
def test_what_is_no_source_is_refused(problem: str, written: str) -> None:
    found = problems(_written(written))

    assert f"bridge.yaml:1: services.a.B.{problem}" in [line.partition(", did you")[0] for line in found]


def test_awss_emulator_knows_no_tenants() -> None:
    assert ["bridge.yaml:1: services.a.B.tenant: tenant has no effect with quirks: rie, which knows no tenants"] == (
        problems(_written("acme", ", quirks: rie"))
    )


def test_a_function_with_tenants_has_no_url() -> None:
    problem = "a function with tenants has no URL: AWS refuses it, because callers of URLs name no tenant"

    assert [f"bridge.yaml:1: functions.f.tenants: {problem}"] == problems(
        "functions: {f: {handler: a.b, tenants: true, url: {auth: none}}}\nservices: {a.B: 'local:f'}"
    )


@pytest.mark.parametrize(
    ("warned", "listen"),
    [
        (True, "0.0.0.0:1"),
        (True, "bridge.example.com:1"),
        (True, "'[::]:1'"),
        (True, "{address: '10.0.0.1:1', tls: {cert: c, key: c}}"),
        (False, "{address: '10.0.0.1:1', tls: {cert: c, key: c, client_ca: c}}"),
        (False, "127.0.0.1:1"),
        (False, "localhost:1"),
        (False, "'[::1]:1'"),
        (False, "unix:/run/x"),
    ],
)
def test_believing_every_client_is_a_warning(tmp_path: Path, warned: bool, listen: str) -> None:
    (tmp_path / "c").touch()
    config = configured(f"listen: [{listen}]\n{_written('{metadata: x-tenant}')}", folder=tmp_path)
    warnings = [*map(str, config.warnings)]

    assert warned is bool(warnings)
    assert all(
        line.startswith("bridge.yaml:1: listen: every client that reaches ")
        and line.endswith("(tls.client_ca), and a.B takes the tenant from the metadata x-tenant")
        for line in warnings
    )


def test_what_no_client_can_claim_is_no_warning() -> None:
    assert () == configured(f"listen: '0.0.0.0:1'\n{_written('acme')}").warnings


@pytest.mark.parametrize(
    ("warned", "listen"),
    [
        (True, "127.0.0.1:1"),
        (True, "{address: '10.0.0.1:1', tls: {cert: c, key: c}}"),
        (False, "127.0.0.1:1, {address: '10.0.0.1:1', tls: {cert: c, key: c, client_ca: c}}"),
    ],
)
def test_certificates_that_nobody_asks_for_are_a_warning(tmp_path: Path, warned: bool, listen: str) -> None:
    (tmp_path / "c").touch()
    warnings = configured(f"listen: [{listen}]\n{_written('{certificate: uri}')}", folder=tmp_path).warnings
    text = (
        "bridge.yaml:1: listen: no listener asks clients for a certificate (tls.client_ca), so calls that take their"
        " tenant from it end UNAUTHENTICATED: a.B"
    )

    assert ((text,) if warned else ()) == tuple(map(str, warnings))
