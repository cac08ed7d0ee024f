"""Contexts for TLS towards targets: what is trusted."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import cast

import pytest

from bridge.carriers.http1 import tls
from bridge.carriers.http1.tls import client_context, context_from_environment


def no_authorities(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As on a slim image without ca-certificates."""
    nothing = ssl.DefaultVerifyPaths(cast("str", None), str(folder), "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)


def test_certificates_and_names_are_verified() -> None:
    context = client_context()

    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version


def test_without_system_authorities_the_bundled_ones_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """botocore brings a bundle; without any, every connection would be refused."""
    no_authorities(monkeypatch, tmp_path)
    context = client_context()

    assert context.cert_store_stats()["x509_ca"] > 50


def test_bundle_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        context_from_environment({"AWS_CA_BUNDLE": "/nonexistent.pem"})


def test_no_bundle_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_authorities(monkeypatch, tmp_path)
    monkeypatch.setattr(tls, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="AWS_CA_BUNDLE"):
        client_context()
