"""TLS contexts from files, and the look at the files' times."""

import os
import ssl
from pathlib import Path

import pytest
import trustme

from bridge.config.schema import TlsFiles
from bridge.server.tls import server_context, stamp_of


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> TlsFiles:
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "tls.key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    return TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt")


def test_context_is_fit_for_http2(files: TlsFiles) -> None:
    """RFC 9113 9.2: TLS 1.2 at least, and only ciphers that are not on its block list."""
    context = server_context(TlsFiles(files.cert, files.key))
    old = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"]

    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version
    assert ssl.CERT_NONE == context.verify_mode
    assert old
    assert all(name.startswith("ECDHE") and ("GCM" in name or "POLY1305" in name) for name in old)


def test_client_ca_asks_for_a_certificate(files: TlsFiles) -> None:
    """Mutual TLS: none is no entry."""
    assert ssl.CERT_REQUIRED == server_context(files).verify_mode


def test_missing_file_is_an_os_error(files: TlsFiles) -> None:
    """And no stamp, so that a reload waits until all are there."""
    files.key.unlink()

    with pytest.raises(OSError):
        server_context(files)
    assert () == stamp_of(files)


def test_key_of_another_certificate_is_an_os_error(files: TlsFiles, authority: trustme.CA) -> None:
    """As happens for a moment while files are replaced."""
    authority.issue_cert("localhost").private_key_pem.write_to_path(files.key)

    with pytest.raises(OSError):
        server_context(files)


def test_encrypted_key_is_refused_and_nobody_is_asked(files: TlsFiles) -> None:
    """A prompt on the terminal would hold the process."""
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))

    with pytest.raises(OSError, match="encrypted"):
        server_context(files)


def test_stamp_changes_with_any_file(files: TlsFiles) -> None:
    """By time or by inode; through symbolic links, as Kubernetes mounts them."""
    stamps = [stamp_of(files)]
    for path in (files.cert, files.key, files.client_ca):
        assert path is not None
        os.utime(path, ns=(1, len(stamps)))
        stamps.append(stamp_of(files))
    fresh = files.cert.with_name("fresh")
    fresh.write_bytes(files.cert.read_bytes())
    os.utime(fresh, ns=(1, 1))
    files.cert.unlink()
    files.cert.symlink_to(fresh)
    stamps.append(stamp_of(files))

    assert len(stamps) == len(set(stamps))
    assert stamp_of(files) == stamp_of(files)
