"""Names of files and folders that hold secrets. None of them gets into a package by accident."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

_KEYS = ("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.ppk", "*.kdbx")
"""Keys and key stores. They are often named after a domain, so `example` in their names says nothing."""
_FILES = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    "*.tfstate",
    "*.tfstate.*",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_ecdsa_sk",
    "id_ed25519_sk",
    "credentials",
    "credentials.json",
    "credentials.csv",
    "*accesskeys.csv",
    "rootkey.csv",
    "client_secret*.json",
    "service-account*.json",
    "service_account*.json",
    "secrets.json",
    "secrets.toml",
    "secrets.yaml",
    "secrets.yml",
    ".netrc",
    "_netrc",
    ".git-credentials",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".vault-token",
    ".dockercfg",
    ".s3cfg",
    ".boto",
)
_EXAMPLES = ("example", "sample", "template", "dist", "defaults")
"""Parts of names of files that show which secrets there are, and hold none."""
_FOLDERS = frozenset({".aws", ".azure", ".docker", ".gcloud", ".gnupg", ".kube", ".secrets", ".ssh"})
_WITH_TOKENS = {".npmrc": ("_authtoken", "_auth", "_password"), ".pypirc": ("password",), ".yarnrc.yml": ("token",)}
_READ = 1 << 20


def is_secret_folder(name: str) -> bool:
    return name.lower() in _FOLDERS


def is_secret_file(file: Path, name: str) -> bool:
    """Whether a file of this name holds secrets. Settings of package managers do if they have a token or a password."""
    name = name.lower()
    if words := _WITH_TOKENS.get(name):
        return _mentions(file, words)
    if _is_like(name, _KEYS):
        return True
    return not any(part in _EXAMPLES for part in name.split(".")) and _is_like(name, _FILES)


def _is_like(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _mentions(file: Path, words: tuple[str, ...]) -> bool:
    try:
        with file.open("rb") as opened:
            text = opened.read(_READ).decode("utf-8", "replace").lower()
    except OSError:
        return False
    return any(word in text for word in words)
