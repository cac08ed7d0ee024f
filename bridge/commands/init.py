"""`init`: writes a commented configuration for ARNs, URLs or folders of .proto."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from bridge.commands.failure import CommandFailed
from bridge.config.load import parse
from bridge.config.problems import ConfigErrors
from bridge.services.errors import BadDescriptors
from bridge.services.proto_folder import compile_folder

_named = re.compile(r"(?P<key>[\w.*]+(?:/\w+)?)=(?P<target>.+)").fullmatch

_HEAD = """\
# The configuration of grpc-lambda-bridge. `grpc-lambda-bridge check --live` says what is wrong with it, and whether AWS
# lets the bridge call the functions. `grpc-lambda-bridge serve` runs the bridge.
#
# Every key that is not here has a default. The project's config.example.yaml lists them all. A line that begins with #
# and no single space after it is an example. Remove the # to use it.

# Where gRPC clients connect. With 0.0.0.0:50051 other machines can call your functions, too.
listen: 127.0.0.1:50051

# /healthz, /readyz, /metrics and a status page.
admin: 127.0.0.1:9901

# Which target answers for which gRPC service. A key is SERVICE, SERVICE/METHOD, a prefix such as shop.v1.*, or "*" for
# all others. A target is an ARN, function:NAME, https://HOST, grpc://HOST:PORT or local:NAME. null: UNIMPLEMENTED.
services:
"""

_TAIL = """
# Credentials and the region are found as boto3 finds them. These keys say more.
#aws:
#  region: eu-west-1                   # for function:NAME, which names no region
#  profile: work
#  role_arn: arn:aws:iam::123456789012:role/bridge

# What holds for all services. A service may have these keys, too.
#defaults:
#  timeout: 30s                        # the longest that a call may take
#  max_request: 4MiB                   # of one message
#  retry: {attempts: 3}                # only calls that surely did not reach the function are repeated

# Functions that run on this machine, for targets local:NAME. `grpc-lambda-bridge new NAME` writes one.
#functions:
#  greeter: {handler: app.handler, timeout: 10s, reload: true}
"""


class _Entry(NamedTuple):
    """An entry of `services`."""

    key: str
    target: str | None
    """None: it is not known yet."""
    descriptors: str | None = None


def init(chosen: argparse.Namespace) -> int:
    """Write the file, and print what to do next. Returns 0. Raises CommandFailed."""
    output: Path = chosen.output
    to_stdout = str(output) == "-"
    folder = Path.cwd() if to_stdout else output.parent
    entries = _entries(chosen.what, folder)
    text = _HEAD + "".join(map(_written, entries)) + _TAIL
    try:
        parse(text, file=str(output), folder=folder, environ=os.environ)
    except ConfigErrors as errors:  # without file and line, because nothing was written
        told = "\n".join(f"{problem.key_path}: {problem.message}" for problem in errors.problems)
        raise CommandFailed(f"{output} was not written\n{told}", exit_code=2) from errors
    if to_stdout:
        sys.stdout.write(text)
        return 0
    try:
        with output.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise CommandFailed(f"{output} exists and was left as it is; -o names another file") from None
    except OSError as error:
        raise CommandFailed(f"{output}: {error.strerror}") from error
    command = f"grpc-lambda-bridge {{}} -c {output}".format
    print(f"wrote {output}\n\nNext:")
    if any(entry.target is None for entry in entries):
        print(f"  write a target in place of each null in {output}")
    print(f"  {command('check --live')}\n  {command('serve')}")
    return 0


def _entries(words: list[str], folder: Path) -> list[_Entry]:
    """Return the entries for the words of the command line. Raises CommandFailed."""
    named = {found["key"]: found["target"] for found in map(_named, words) if found is not None}
    plain = [word for word in words if _named(word) is None]
    folders = [word for word in plain if Path(word).is_dir()]
    targets = [word for word in plain if word not in folders]
    if len(targets) > 1 or (targets and named and not folders):
        raise CommandFailed(
            f"which service does {targets[-1]} serve? Write SERVICE=TARGET for each target, such as"
            f" helloworld.Greeter={targets[-1]}",
            exit_code=2,
        )
    target = targets[0] if targets else None
    entries = [
        _Entry(service, named.pop(service, target), os.path.relpath(protos, folder))
        for protos in folders
        for service in _services_in(Path(protos))
    ]
    entries += [_Entry(key, each) for key, each in named.items()]
    if not folders and (target or not named):
        entries.append(_Entry("*", target))
    return entries


def _services_in(folder: Path) -> list[str]:
    """Return the services that the folder's own .proto files declare. Raises CommandFailed."""
    try:
        found = FileDescriptorSet.FromString(compile_folder(folder))
    except BadDescriptors as error:
        raise CommandFailed(str(error), exit_code=2) from error
    services = [
        f"{file.package}.{service.name}".lstrip(".")
        for file in found.file
        if (folder / file.name).is_file()
        for service in file.service
    ]
    if not services:
        raise CommandFailed(f"no .proto file in {folder} declares a service", exit_code=2)
    return sorted(services)


def _written(entry: _Entry) -> str:
    key = json.dumps(entry.key) if "*" in entry.key else entry.key
    if entry.target is None:
        return f"  {key}: null  # its target is missing\n"
    lines = [f"  {key}:", f"    target: {_quoted(entry.target)}"]
    if entry.target.startswith(("http://", "https://")):
        lines.append("    auth: none  # iam: requests are signed, for a URL with AuthType AWS_IAM")
    if entry.descriptors is not None:
        lines.append(f"    descriptors: {_quoted(entry.descriptors)}  # for reflection, without asking the function")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return the text as YAML reads it, a dollar sign included."""
    return json.dumps(text.replace("$", "$$"))
