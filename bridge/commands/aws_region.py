"""AWS's files, and the region that they or the environment name, as boto3 finds it, without importing botocore."""

from __future__ import annotations

from collections.abc import Mapping
from configparser import Error, RawConfigParser
from pathlib import Path


def region_of(profile: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the region of the environment, or else that of the profile in the AWS files. None: nothing names one.

    `profile` stands before AWS_PROFILE. Files that cannot be read count as empty, as they do for botocore's region.
    """
    found = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if found:
        return found
    name = profile or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    config, credentials = map(_sections, aws_files(environ))
    own = config.get(f"profile {name}") or (config.get(name) if name == "default" else None) or {}
    return own.get("region") or credentials.get(name, {}).get("region") or None


def aws_files(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """Return the places of AWS's configuration file and of its credentials file."""
    home = Path(environ.get("HOME") or Path.home())

    def place(named: str | None, usual: str) -> Path:
        if not named:
            return home / ".aws" / usual
        return home / named[2:] if named.startswith("~/") else Path(named)

    config = place(environ.get("AWS_CONFIG_FILE"), "config")
    return config, place(environ.get("AWS_SHARED_CREDENTIALS_FILE"), "credentials")


def _sections(path: Path) -> dict[str, dict[str, str]]:
    """Return the sections of an AWS file, by name. `profile "a b"` is the profile `a b`."""
    parser = RawConfigParser(strict=False, default_section="")
    try:
        parser.read_string(path.read_text("utf-8"))
    except (OSError, ValueError, Error):
        return {}
    return {" ".join(name.replace('"', "").split()): dict(parser.items(name)) for name in parser.sections()}
