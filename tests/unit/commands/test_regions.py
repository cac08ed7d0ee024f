"""Which configurations need a region."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge import cli


@pytest.mark.parametrize(("more", "code"), [("", 2), (", quirks: rie", 0)])
def test_awss_local_emulator_needs_no_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, code: int
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    file = tmp_path / "bridge.yaml"
    file.write_text(f"services: {{a.B: {{target: 'function:f', endpoint_url: 'http://127.0.0.1:9000'{more}}}}}\n")

    assert code == cli.main(["check", "-c", str(file)])
