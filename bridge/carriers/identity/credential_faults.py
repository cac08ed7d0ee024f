"""Explains why credentials cannot be found or used: the provider, its file or URL, and the reason, without any secret.

It takes what botocore raised and the settings of its session, and returns one line for the log. Providers read files,
run programs and ask servers. Their output is never quoted, because it may hold a secret.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bridge.aws.sigv4 import Credentials
from bridge.carriers.identity import botocore_internals
from bridge.rpc.url import Url

if TYPE_CHECKING:
    from botocore.session import Session

_VISIBLE = re.compile(r"[!-~]+").fullmatch
"""The text that may stand in a request's head. A key ends in a line break if a secret was made with `echo`, or a file
has CRLF.
"""
_REGION = re.compile(r"[A-Za-z0-9-]{1,63}").fullmatch
_CONTAINER_HOST = "http://169.254.170.2"
_USER_IN_URL = re.compile(r"//[^/@\s\"']*@")
_QUERY_IN_URL = re.compile(r"(https?://[^\s\"'?]*)\?[^\s\"']*")


def unusable_part(credentials: Credentials) -> str | None:
    """Which part of the credentials cannot stand in a request's head, and why. None if all can."""
    parts = {
        "the access key id": credentials.access_key,
        "the secret access key": credentials.secret_key,
        "the session token": credentials.token or "-",
    }
    for name, value in parts.items():
        if not value:
            return f"{name} is empty"
        if not _VISIBLE(value):
            return f"{name} holds {_kind_of_fault(value)}"
    return None


def unusable_setting(region: str | None, endpoint: str | None) -> str | None:
    """Why requests cannot be sent with these settings, or None if they can."""
    if region is not None and not _REGION(region):
        return f"the region of the environment or the profile holds {_kind_of_fault(region)}"
    if endpoint is not None:
        try:
            Url.parse(endpoint)
        except ValueError as error:
            return f"Lambda's endpoint of the environment or the profile: {error}"
    return None


def _kind_of_fault(value: str) -> str:
    if "\n" in value or "\r" in value:
        return "a line break: take it out of the variable, the file or the secret"
    return "a space, a control character or a letter beyond ASCII"


# -- the place ---------------------------------------------------------------------------------------------------------


def place_of(provider: str, session: Session, environment: Mapping[str, str]) -> str:
    """Return a provider of botocore by its name, and what it reads. Never fails."""
    try:
        read = _what_is_read(provider, session, environment)
    except Exception:  # noqa: BLE001 - the configuration itself may be broken
        read = ""
    return f"{provider} ({read})" if read else provider


def _what_is_read(provider: str, session: Session, environment: Mapping[str, str]) -> str:
    profile = session.get_config_variable("profile") or "default"
    files = {
        "shared-credentials-file": "credentials_file",
        "config-file": "config_file",
    }
    config_file = session.get_config_variable("config_file")
    match provider:
        case "env":
            return "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN"
        case "shared-credentials-file" | "config-file":
            return f"{session.get_config_variable(files[provider])}, profile {profile}"
        case "custom-process":
            return f"{_program(session)}, credential_process of profile {profile}"
        case "assume-role-with-web-identity":
            configured = _profile(session).get("web_identity_token_file", "")
            return f"token file {environment.get('AWS_WEB_IDENTITY_TOKEN_FILE') or configured}"
        case "container-role":
            return _container_url(environment)
        case "iam-role":
            return str(session.get_config_variable("ec2_metadata_service_endpoint") or "http://169.254.169.254")
        case "ec2-credentials-file":
            return environment.get("AWS_CREDENTIAL_FILE", "")
        case "boto-config":
            return environment.get("BOTO_CONFIG", "/etc/boto.cfg, ~/.boto")
        case _:  # assume-role, sso, login
            return f"profile {profile} in {config_file}"


def _profile(session: Session) -> dict[str, Any]:
    """Return the profile, merged from both files."""
    found: dict[str, Any] = session.get_scoped_config()
    return found


def _program(session: Session) -> str:
    """Return the command without its arguments, which may hold a password."""
    words = shlex.split(_profile(session).get("credential_process", ""))
    return words[0] if words else "no program"


def _container_url(environment: Mapping[str, str]) -> str:
    """Return the URL without parts that may be secret: a container's own path, a user, a query."""
    if "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in environment:
        return f"{_CONTAINER_HOST}, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
    parts = urlsplit(environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", ""))
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}, AWS_CONTAINER_CREDENTIALS_FULL_URI"


# -- the reason --------------------------------------------------------------------------------------------------------


def reason_of(error: BaseException, provider: str = "") -> str:
    """Explain an error. Texts are passed on only if botocore wrote them itself and they quote no input."""
    by_kind = _builtin_reason(error, provider)
    if by_kind:
        return by_kind
    if type(error).__module__.startswith("botocore."):
        return _botocore_reason(error, provider)
    return f"it failed ({type(error).__name__})"


_NO_TEXT = {
    "custom-process": "its output is not UTF-8 text",
    "assume-role-with-web-identity": "the token file is not UTF-8 text",
}
_NO_JSON = {
    "custom-process": "its output is not JSON",
    "sso": "the cached token is not JSON",
}


def _builtin_reason(error: BaseException, provider: str) -> str:
    match error:
        case FileNotFoundError() if error.filename:
            return f"no such file: {error.filename}"
        case OSError() if error.strerror:
            return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        case UnicodeDecodeError():
            return _NO_TEXT.get(provider, "what it reads is not UTF-8 text")
        case KeyError():
            return f"what it gives lacks {error.args[0]}" if _is_name(error) else "what it gives lacks a field"
        case RuntimeError() if botocore_internals.EXPIRED in str(error):
            return "the credentials that it gives have expired"
        case ValueError() if botocore_internals.BROKEN_HEADER in str(error):
            return "the authorization token holds a line break"
        case ValueError() if botocore_internals.BAD_HOST in str(error):
            return (
                "credentials are asked for by HTTP only of this machine and of AWS's addresses for containers: "
                "name one of them, or use https"
            )
    match type(error).__name__:
        case "JSONDecodeError":
            return _NO_JSON.get(provider, "what it reads is not JSON")
        case "ParserError":
            return "the expiry that it gives is no date"
        case "AttributeError" | "TypeError" if provider == "custom-process":
            return "its output is JSON, but no object"
    return ""


def _is_name(error: KeyError) -> bool:
    name = error.args[0] if error.args else None
    return isinstance(name, str) and name.isidentifier() and len(name) <= 40


def _botocore_reason(error: BaseException, provider: str) -> str:
    from botocore.exceptions import (
        CredentialRetrievalError,
        HTTPClientError,
        MetadataRetrievalError,
    )

    if isinstance(error, CredentialRetrievalError | MetadataRetrievalError):
        return _retrieval_reason(str(error), provider)
    if type(error) is HTTPClientError:
        return "a request to AWS could not be made: what it should carry is not valid in HTTP"
    text = _USER_IN_URL.sub("//…@", str(error))
    return _QUERY_IN_URL.sub(r"\1?…", text)


def _retrieval_reason(text: str, provider: str) -> str:
    """Explain an error that quotes a program or a server. The quote may be secret, so only known facts are told."""
    if found := botocore_internals.find_missing_key(text):
        return f"its output lacks {found[1]}"
    if botocore_internals.find_unknown_version(text):
        return "its output does not say Version 1"
    if found := botocore_internals.find_http_status(text):
        return f"the server answered HTTP {found[1]}"
    if botocore_internals.NOT_JSON in text:
        return "the server's answer is not JSON"
    if provider == "custom-process":
        return "the program ended with an error: run it by hand to see what it says"
    return "the server could not be asked, or gave no credentials"
