"""The command line: words in, an exit code out. 0: fine; 1: failed; 2: wrong usage or configuration."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from bridge.commands.failure import CommandFailed
from bridge.config.problems import ConfigErrors

_EPILOG = """\
Start with `grpc-lambda-bridge serve -c bridge.yaml`, where bridge.yaml holds

  services:
    helloworld.Greeter: arn:aws:lambda:eu-west-1:123456789012:function:greeter
"""


_COMPLETE = "__complete"
"""Asked by the scripts of `completion`, not by people."""

_STARTING = ("serve", "emulate")
"""The commands that would have started something."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    _open_what_is_closed()
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        if words[:1] == [_COMPLETE]:
            return _complete(" ".join(words[1:]))
        chosen = parse(words)
        return _run(chosen)
    except ConfigErrors as errors:
        from bridge.commands.check_report import print_errors

        print_errors(errors.problems)
        count = len(errors.problems)
        outcome = "; nothing was started" if chosen.command in _STARTING else ""
        print(f"{count} problem{'s' if count > 1 else ''}{outcome}", file=sys.stderr)
        return 2
    except CommandFailed as failure:
        print(f"grpc-lambda-bridge: {failure}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            _let_go_of(stream)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line without the program's name. Flags and other arguments may stand in any order.

    Raises SystemExit as argparse does: for wrong usage, and once help or the version is printed.
    """
    parser = _bare_parser()
    commands = _add_commands(parser).choices
    command = commands.get(words[0]) if words else None
    if command is None:
        return parser.parse_args(words)
    # The command reads its arguments itself. Through the parser of all commands, an optional argument behind a flag
    # would be unrecognized.
    return command.parse_intermixed_args(words[1:], argparse.Namespace(command=words[0]))


def _complete(line: str) -> int:
    """Print the words with which the shell may complete the line. Returns 0."""
    from bridge.commands.completion import complete

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for word in complete(line, _commands().choices):
        print(word)
    return 0


def _open_what_is_closed() -> None:
    """Open stderr on /dev/null if the bridge was started without it (`2>&-`). Otherwise a socket would get its number,
    and whoever is at its other end would get our log.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - it takes the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _let_go_of(stream: TextIO) -> None:
    """Flush the output. Its reader may have gone (`| head`). That is no error, so exit code 120 is avoided."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(chosen: argparse.Namespace) -> int:
    # Each command is imported when it is asked for: `--help` and `check` must not wait for what `serve` needs.
    match chosen.command:
        case "new":
            from bridge.commands.new import new

            return new(chosen)
        case "init":
            from bridge.commands.init import init

            return init(chosen)
        case "invoke":
            from bridge.commands.invoke import invoke

            return invoke(chosen)
        case "package":
            from bridge.commands.package import package

            return package(chosen)
        case "serve":
            from bridge.commands.serve import serve

            return serve(chosen)
        case "check":
            from bridge.commands.check import check

            return check(chosen)
        case "routes":
            from bridge.commands.routes import routes

            return routes(chosen)
        case "iam":
            from bridge.commands.iam import iam

            return iam(chosen)
        case "emulate":
            from bridge.commands.emulate import emulate

            return emulate(chosen)
        case "completion":
            from bridge.commands.completion import completion

            return completion(chosen)
        case _:
            # The local Lambda starts processes while gRPC's threads run. They exec at once, so nothing of gRPC needs to
            # survive.
            os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
            # gRPC's C code writes lines of its own to stderr, and `call` says what failed.
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
            from bridge.commands.call import call

            return call(chosen)


_Commands = argparse._SubParsersAction  # noqa: SLF001 - the type has no public name


def _commands() -> _Commands[argparse.ArgumentParser]:
    return _add_commands(_bare_parser())


def _bare_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="grpc-lambda-bridge",
        description="Lets unmodified gRPC clients call AWS Lambda functions.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("grpc-lambda-bridge"))
    return parser


def _add_commands(parser: argparse.ArgumentParser) -> _Commands[argparse.ArgumentParser]:
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_new(commands)
    _add_init(commands)
    _add_invoke(commands)
    _add_package(commands)
    _add_serve(commands)
    _add_check(commands)
    _add_routes(commands)
    _add_iam(commands)
    _add_emulate(commands)
    _add_call(commands)
    _add_completion(commands)
    return commands


def _add(
    commands: _Commands[argparse.ArgumentParser], name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration file (default: BRIDGE_CONFIG, else ./bridge.yaml)",
    )
    return command


def _add_new(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "new",
        help="Create a folder with a function that answers gRPC calls.",
        description="Create a folder with a function that answers gRPC calls, and all it needs to run, be tested and be"
        " deployed. No file is overwritten.",
        epilog="examples:\n  grpc-lambda-bridge new greeter\n  grpc-lambda-bridge new orders --proto orders.proto\n"
        "  grpc-lambda-bridge new orders --proto orders.proto --language go",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("name", type=Path, metavar="NAME", help="the function's name, or a path that ends in it")
    command.add_argument(
        "--proto",
        type=Path,
        metavar="FILE",
        help="serve the services of this .proto file; the files that it imports are copied, too",
    )
    command.add_argument(
        "--language",
        choices=("python", "node", "go", "rust"),
        default="python",
        help="what it is written in (default: %(default)s); the others need Node.js, Go or Rust on the PATH",
    )


def _add_init(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "init",
        help="Write a commented configuration for ARNs, URLs or folders of .proto.",
        description="Write a commented configuration. No file is overwritten.",
        epilog="examples:\n"
        "  grpc-lambda-bridge init arn:aws:lambda:eu-west-1:123456789012:function:greeter\n"
        "  grpc-lambda-bridge init protos https://abc123.lambda-url.eu-west-1.on.aws\n"
        "  grpc-lambda-bridge init helloworld.Greeter=function:greeter shop.v1.*=grpc://shop:50051",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "what",
        nargs="*",
        metavar="TARGET|SERVICE=TARGET|FOLDER",
        help="a target for all services or for one, or a folder of .proto whose services need a target",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("bridge.yaml"),
        metavar="FILE",
        help="the file to write (default: %(default)s); - prints it",
    )


def _add_invoke(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = _add(
        commands,
        "invoke",
        "Run a function with an event. Print its result, the end of its log, and what it took.",
        'grpc-lambda-bridge invoke greeter \'{"name": "world"}\'\n'
        "  grpc-lambda-bridge invoke function:greeter:live @event.json",
    )
    command.add_argument(
        "name",
        metavar="NAME",
        help="one of the `functions` of the file, which runs here, or a function on AWS: NAME, function:NAME or an ARN",
    )
    command.add_argument(
        "event",
        nargs="?",
        default="{}",
        metavar="EVENT",
        help="JSON, or @FILE; - reads standard input (default: %(default)s)",
    )


def _add_package(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = _add(
        commands,
        "package",
        "Make the zip of a function, or the folder from which its image is built.",
        "grpc-lambda-bridge package greeter --arch arm64\n"
        "  grpc-lambda-bridge package ../orders --handler orders.handler --into orders.zip\n"
        "  grpc-lambda-bridge package greeter --image && docker build -t greeter dist/greeter",
    )
    command.add_argument("name", metavar="NAME|DIR", help="one of the `functions` of the file, or a function's folder")
    command.add_argument(
        "--image", action="store_true", help="make a folder with a Dockerfile, for `docker build`, in place of a zip"
    )
    command.add_argument(
        "--into", type=Path, metavar="PATH", help="what to make (default: dist/NAME.zip, or the folder dist/NAME)"
    )
    command.add_argument(
        "--arch",
        choices=("x86_64", "arm64"),
        help="the function's architecture (default: x86_64; of Web Functions arm64)",
    )
    command.add_argument(
        "--python",
        metavar="3.N",
        help="the version of its runtime (default: as .python-version says, or `python` of the function; else 3.13)",
    )
    command.add_argument("--handler", metavar="NAME", help="module.attribute, if the file does not say it")
    command.add_argument(
        "--requirements",
        type=Path,
        metavar="FILE",
        help="what names the dependencies (default: uv.lock, requirements.txt or pyproject.toml in the folder)",
    )
    command.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="PATTERN",
        help="pack these files although .gitignore ignores them; may be repeated, adds to `package.include`",
    )
    command.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="do not pack these files; may be repeated, adds to `package.exclude`",
    )
    command.add_argument("--no-check", action="store_true", help="do not import the handler from the finished package")
    command.add_argument("-o", "--output", choices=("text", "json"), default="text", help="json: one JSON object")


def _add_serve(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = _add(commands, "serve", "Run the bridge.", "grpc-lambda-bridge serve -c bridge.yaml --watch")
    command.add_argument(
        "--listen",
        metavar="ADDRESS",
        help="where gRPC clients connect: HOST:PORT or unix:PATH; replaces `listen` of the file",
    )
    command.add_argument(
        "--admin",
        metavar="HOST:PORT",
        help="replaces `admin` of the file; `null` turns the admin port off",
    )
    command.add_argument("--workers", metavar="N", help="number of processes; 0 means one for each core")
    command.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    command.add_argument("--log-format", choices=("auto", "console", "json"))
    command.add_argument(
        "--watch",
        action="store_true",
        help="reload when the configuration, or a file that it names, changes (as SIGHUP does)",
    )


def _add_check(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = _add(
        commands,
        "check",
        "Report all problems of a configuration. Nothing is started.",
        "grpc-lambda-bridge check bridge.yaml --live\n  grpc-lambda-bridge check - < bridge.yaml",
    )
    command.add_argument("file", nargs="?", metavar="FILE", help="as -c; - reads standard input")
    command.add_argument(
        "-o",
        "--output",
        choices=("text", "json", "github", "sarif"),
        default="text",
        help="how problems are printed; github: as annotations of a workflow",
    )
    command.add_argument(
        "--schema",
        action="store_true",
        help="print the JSON Schema of the configuration, for editors, and check nothing",
    )
    command.add_argument(
        "--live",
        action="store_true",
        help="also ask AWS which functions the credentials may call (DryRun: no function runs)",
    )


def _add_routes(commands: _Commands[argparse.ArgumentParser]) -> None:
    _add(
        commands,
        "routes",
        "List each service or method with its target.",
        "grpc-lambda-bridge routes -c bridge.yaml",
    )


def _add_iam(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = _add(
        commands,
        "iam",
        "Print the least AWS permissions that the configuration needs, with the trust policies of its roles.",
        "grpc-lambda-bridge iam -c bridge.yaml --account 123456789012 --runs-on ecs -o terraform",
    )
    command.add_argument("-o", "--output", choices=("json", "terraform"), default="json")
    command.add_argument("--account", metavar="ID", help="the account of functions and APIs that are named without one")
    command.add_argument("--region", metavar="NAME", help="their region, if the configuration does not say it")
    command.add_argument(
        "--function",
        action="append",
        default=[],
        metavar="HOST=ARN",
        help="the function behind a URL with this host; may be repeated",
    )
    command.add_argument(
        "--runs-on",
        choices=("ec2", "ecs", "pod-identity", "irsa"),
        help="where the bridge runs: also print the trust policy of its own role",
    )
    command.add_argument("--oidc-provider", metavar="ARN", help="for irsa: the ARN of the cluster's OIDC provider")
    command.add_argument("--service-account", metavar="NAMESPACE:NAME", help="for irsa and pod-identity: the pod's")
    command.add_argument(
        "--principal", metavar="ARN", help="who may assume the roles: the ARN of the bridge's own role"
    )


def _add_emulate(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = _add(
        commands,
        "emulate",
        "Run only the local Lambda. It has AWS's API for boto3, the AWS CLI and other tools.",
        "grpc-lambda-bridge emulate -c bridge.yaml",
    )
    command.add_argument("--emulator", metavar="HOST:PORT", help="replaces `emulator` of the file")


def _add_call(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = _add(
        commands,
        "call",
        "Call a method with JSON, through a running bridge or directly at a target.",
        'grpc-lambda-bridge call helloworld.Greeter/SayHello \'{"name": "world"}\'\n'
        "  grpc-lambda-bridge call --target function:greeter helloworld.Greeter/SayHello -d @request.json\n"
        "  grpc-lambda-bridge call list\n"
        "  grpc-lambda-bridge call describe helloworld.Greeter",
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--to",
        metavar="ADDRESS",
        help="a running bridge, or another gRPC server (default: localhost:50051)",
    )
    where.add_argument(
        "--target",
        metavar="TARGET",
        help="call this target without a running bridge: an ARN, function:NAME or local:NAME",
    )
    command.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="K:V",
        help="an entry of the call's metadata; may be repeated",
    )
    command.add_argument("--timeout", metavar="TIME", help="the call's deadline, such as 5s")
    tls = command.add_argument_group("TLS", "Each of these flags but --authority asks for TLS.")
    tls.add_argument("--tls", action="store_true", help="use TLS to the server at --to")
    tls.add_argument("--cacert", type=Path, metavar="FILE", help="the authorities to trust (PEM), not the system's")
    tls.add_argument("--cert", type=Path, metavar="FILE", help="the client's certificate (PEM)")
    tls.add_argument("--key", type=Path, metavar="FILE", help="the key of --cert (PEM)")
    tls.add_argument("--insecure", action="store_true", help="do not check the server's certificate")
    tls.add_argument(
        "--authority", metavar="NAME", help="the :authority of the call, and the name that the certificate must have"
    )
    described = command.add_argument_group("descriptors", "Without these flags the server is asked (reflection).")
    described.add_argument(
        "--protoset",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a FileDescriptorSet; may be repeated",
    )
    described.add_argument(
        "--proto", type=Path, action="append", default=[], metavar="FILE", help="a .proto file; may be repeated"
    )
    described.add_argument(
        "-I",
        "--import-path",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="where --proto and its imports are; may be repeated (default: the working directory)",
    )
    command.add_argument("-o", "--output", choices=("text", "json"), default="text", help="json: one JSON object")
    command.add_argument("-v", "--verbose", action="store_true", help="also print the method, and when what happened")
    command.add_argument(
        "-d",
        "--data",
        metavar="JSON",
        help="the message, or several in a row for a request stream; @FILE reads a file, @ reads standard input",
    )
    command.add_argument("method", metavar="SERVICE/METHOD", help="what to call; or the word list, or describe")
    command.add_argument(
        "argument",
        nargs="?",
        metavar="JSON",
        help="as -d; - reads standard input. After list: a service. After describe: any name of a .proto file",
    )


def _add_completion(commands: _Commands[argparse.ArgumentParser]) -> None:
    summary = "Print a script with which a shell completes commands, services and methods."
    command = commands.add_parser(
        "completion",
        help=summary,
        description=summary,
        epilog='example:\n  eval "$(grpc-lambda-bridge completion bash)"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("shell", choices=("bash", "zsh", "fish"))
