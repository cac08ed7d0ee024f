"""A function in Rust: an interface in, the texts of its files out.

tonic serves the methods, and lambda-grpc-web brings the events. Cargo makes the generated code with build.rs, where
protox stands in for protoc. So nothing has to run here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from string import Template

from bridge.commands.scaffold.folder import (
    PROTO,
    STREAMED_DEFAULTS,
    THIRD_PARTY,
    bridge_yaml,
    names_in,
    proto_texts,
    template_yaml,
    words_of,
)
from bridge.commands.scaffold.interface import DeclaredService, Interface, Method
from bridge.commands.scaffold.toolchain import formatted, require

FILES: tuple[str, ...] = ()
"""What must not exist before tools run: no tool runs that takes long."""
STEPS = ("cargo test", "make bootstrap", "grpc-lambda-bridge serve")

_RAW = names_in(
    "as break const continue else enum false fn for if impl in let loop match mod move mut pub ref return static"
    " struct trait true type unsafe use where while dyn abstract become box do final macro override priv typeof"
    " unsized virtual yield async await try gen"
)
"""Keywords that a raw identifier may name."""
_UNDERSCORED = frozenset(("_", "super", "self", "Self", "extern", "crate"))
"""Keywords that no raw identifier may name. prost gives them an underscore."""

_WRAPPED = {
    "BoolValue": "bool",
    "BytesValue": "Vec<u8>",
    "DoubleValue": "f64",
    "Empty": "()",
    "FloatValue": "f32",
    "Int32Value": "i32",
    "Int64Value": "i64",
    "StringValue": "String",
    "UInt32Value": "u32",
    "UInt64Value": "u64",
}
"""What prost makes of messages of google.protobuf. The others are in the crate prost-types."""


def files_of(name: str, interface: Interface, *, greets: bool) -> dict[str, str]:
    """Return the files of the function, by their paths in its folder. Raises CommandFailed."""
    require("cargo", "Rust 1.88 or later from https://rustup.rs")
    return texts_of(name, interface, greets=greets)


def texts_of(name: str, interface: Interface, *, greets: bool) -> dict[str, str]:
    """Return the same without a look for Cargo."""
    code = _Code(interface, greets=greets)
    words = words_of(name, interface, greets=greets) | {
        "file": interface.file,
        "include": f', "{THIRD_PARTY}"' if interface.third_party else "",
    }
    texts = {path: template.substitute(words) for path, template in _TEMPLATES.items()}
    texts["bridge.yaml"] = bridge_yaml(words, 'command: ["./bootstrap"]', built="bootstrap", defaults=STREAMED_DEFAULTS)
    texts["template.yaml"] = template_yaml(
        words, handler="bootstrap", runtime="provided.al2023", build_method="makefile"
    )
    texts["src/main.rs"] = formatted(["rustfmt", "--edition", "2024"], code.main())
    return texts | proto_texts(interface)


def words_in(name: str) -> list[str]:
    """Split a name as the crate heck does: between letters and other characters, and where the case changes. The last
    of several upper-case letters begins a word if a lower-case letter follows.
    """
    found = []
    for part in re.split(r"[^A-Za-z0-9]+", name):
        start, mode = 0, ""
        for at, (char, after) in enumerate(pairwise(part)):
            now = "lower" if char.islower() else "upper" if char.isupper() else mode
            if now == "lower" and after.isupper():
                found.append(part[start : at + 1])
                start, mode = at + 1, ""
            elif mode == "upper" and char.isupper() and after.islower():
                found.append(part[start:at])
                start, mode = at, ""
            else:
                mode = now
        found.append(part[start:])
    return [word for word in found if word]


def snake_name(name: str) -> str:
    """Return the name of a module or method, as prost makes it."""
    return _sanitized("_".join(words_in(name)).lower())


def type_name(name: str) -> str:
    """Return the name of a type, as prost makes it."""
    return _sanitized("".join(word.capitalize() for word in words_in(name)))


def _sanitized(name: str) -> str:
    if name in _RAW:
        return f"r#{name}"
    if name in _UNDERSCORED:
        return f"{name}_"
    return f"_{name}" if name[:1].isdigit() else name


class _Code:
    """Writes the code that depends on the interface."""

    def __init__(self, interface: Interface, *, greets: bool) -> None:
        self._interface = interface
        self._greets = greets
        self._methods = [method for service in interface.services for method in service.methods]

    def main(self) -> str:
        services = "\n".join(self._service(service) for service in self._interface.services)
        added = "".join(
            f"        .add_service({self._server(service)}::new({_struct(service)}))\n"
            for service in self._interface.services
        )
        return (
            f"//! The function: the methods of {PROTO}/{self._interface.file}.\n\n"
            + self._uses()
            + _PROTO_MODULE
            + (_REPLIES if any(method.streams_replies for method in self._methods) else "")
            + f"\n{services}\n"
            + '#[tokio::main(flavor = "current_thread")]\nasync fn main() -> Result<(), Error> {\n'
            + f"    LambdaServer::builder()\n{added}        .serve_apigw_http()\n        .await\n}}\n"
            + self._tests()
        )

    def _uses(self) -> str:
        streams = any(method.streams_replies for method in self._methods)
        both = any(method.streams_replies and method.streams_requests for method in self._methods)
        taken = any(method.streams_requests for method in self._methods)
        names = ["Request", "Response", "Status", *(("Streaming",) if taken else ())]
        return (
            ("use std::pin::Pin;\n\n" if streams else "")
            + "use lambda_grpc_web::{LambdaServer, lambda_runtime::Error};\n"
            + ("use tokio_stream::{Stream, StreamExt};\n" if both else "use tokio_stream::Stream;\n" if streams else "")
            + (f"use tonic::{{{', '.join(names)}}};\n" if self._methods else "")
            + "\n"
        )

    def _service(self, service: DeclaredService) -> str:
        name = type_name(service.name)
        methods = "\n".join(self._method(method) for method in service.methods)
        head = f"impl {self._module(service, 'server')}::{name} for {_struct(service)} {{"
        if not methods:
            return f"struct {_struct(service)};\n\n{head}}}\n"
        return f"struct {_struct(service)};\n\n#[tonic::async_trait]\n{head}\n{methods}}}\n"

    def _module(self, service: DeclaredService, side: str) -> str:
        """Return the generated module of one side of a service."""
        # naive_snake_case of tonic-build: an underscore before each upper-case letter but the first.
        snake = re.sub(r"(?<=.)(?=[A-Z])", "_", type_name(service.name)).lower()
        return f"{self._package(self._interface.file)}{snake}_{side}"

    def _server(self, service: DeclaredService) -> str:
        return f"{self._module(service, 'server')}::{type_name(service.name)}Server"

    def _package(self, file: str) -> str:
        package = self._interface.files[file].package
        return "proto::" + "".join(f"{snake_name(part)}::" for part in package.split(".") if part)

    def _type(self, name: str) -> str:
        message = self._interface.types[name]
        *around, last = message.path
        if message.file.startswith("google/protobuf/"):
            return _WRAPPED.get(name.removeprefix("google.protobuf."), f"prost_types::{type_name(last)}")
        return self._package(message.file) + "".join(f"{snake_name(part)}::" for part in around) + type_name(last)

    def _method(self, method: Method) -> str:
        request, reply = self._type(method.request), self._type(method.reply)
        stream = f"{method.name}Stream"
        taken = f"Streaming<{request}>" if method.streams_requests else request
        given = f"Self::{stream}" if method.streams_replies else reply
        argument = "request" if self._greets or method.streams_requests else "_request"
        kind = f"    type {stream} = Replies<{reply}>;\n\n" if method.streams_replies else ""
        result = f"Result<Response<{given}>, Status>"
        name = snake_name(method.name)
        head = f"    async fn {name}(&self, {argument}: Request<{taken}>) -> {result} {{"
        return f"{kind}{head}\n" + "".join(f"        {line}\n" for line in self._body(method, reply)) + "    }\n"

    def _body(self, method: Method, reply: str) -> list[str]:
        if self._greets:
            return [
                'let message = format!("Hello, {}!", request.into_inner().name);',
                f"Ok(Response::new({reply} {{ message }}))",
            ]
        hint = f"// Write here what {method.name} does."
        match method.streams_requests, method.streams_replies:
            case False, False:
                return [hint, f"Ok(Response::new({_default(reply)}))"]
            case False, True:
                return [
                    hint,
                    f"let replies = [Ok({_default(reply)})];",
                    "Ok(Response::new(Box::pin(tokio_stream::iter(replies))))",
                ]
            case True, False:
                return [
                    "let mut requests = request.into_inner();",
                    "while let Some(_request) = requests.message().await? {",
                    f"    {hint}",
                    "}",
                    f"Ok(Response::new({_default(reply)}))",
                ]
            case _:
                return [
                    "let replies = request.into_inner().map(|request| {",
                    "    let _request = request?;",
                    f"    {hint}",
                    f"    Ok({_default(reply)})",
                    "});",
                    "Ok(Response::new(Box::pin(replies)))",
                ]

    # -- tests --

    def _tests(self) -> str:
        tests = [self._test(service, method) for service in self._interface.services for method in service.methods]
        return (
            "\n/// Calls the methods in this process, with tonic's client.\n#[cfg(test)]\nmod tests {\n"
            "    use super::*;\n" + "".join(f"\n{test}" for test in tests) + "}\n"
        )

    def _test(self, service: DeclaredService, method: Method) -> str:
        client = f"{self._module(service, 'client')}::{type_name(service.name)}Client"
        name = snake_name(method.name)
        request = _default(self._type(method.request))
        lines = [
            f"let server = {self._server(service)}::new({_struct(service)});",
            f"let mut client = {client}::new(server);",
        ]
        if self._greets:
            request = "request"
            lines += [f"let request = {self._type(method.request)} {{", '    name: "world".to_string(),', "};"]
        elif method.streams_requests:
            request = "requests"
            lines += [f"let requests = tokio_stream::iter([{_default(self._type(method.request))}]);"]
        lines.append(f"let response = client.{name}({request}).await.unwrap();")
        if method.streams_replies:
            lines += ["let mut replies = response.into_inner();"]
            lines += ["assert!(replies.message().await.unwrap().is_some());"]
            lines += ["assert!(replies.message().await.unwrap().is_none());"]
        elif self._greets:
            lines += ['assert_eq!(response.into_inner().message, "Hello, world!");']
        else:
            lines += [f"assert_eq!(response.into_inner(), {_default(self._type(method.reply))});"]
        title = f"{snake_name(service.name)}_{name}".replace("r#", "")
        head = f"    #[tokio::test]\n    async fn {title}() {{\n"
        return head + "".join(f"        {line}\n" for line in lines) + "    }\n"


def _struct(service: DeclaredService) -> str:
    return f"{type_name(service.name)}Service"


def _default(kind: str) -> str:
    """Return the expression for the default of a type."""
    if kind == "()":
        return kind
    return f"<{kind}>::default()" if "<" in kind else f"{kind}::default()"


_PROTO_MODULE = """\
/// The generated code. build.rs makes it.
#[allow(dead_code, non_camel_case_types, clippy::all)]
mod proto {
    tonic::include_proto!("all-packages");
}
"""
_REPLIES = "\ntype Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;\n"

_TEMPLATES: Mapping[str, Template] = {
    "Cargo.toml": Template("""\
[package]
name = "$name"
version = "0.1.0"
edition = "2024"
publish = false

# The name that Lambda looks for.
[[bin]]
name = "bootstrap"
path = "src/main.rs"

[dependencies]
lambda-grpc-web = { version = "0.4", features = ["transport-apigw-http"] }
prost = "0.14"
prost-types = "0.14"
tokio = { version = "1", features = ["macros", "rt"] }
tokio-stream = { version = "0.1", default-features = false }
tonic = "0.14"
tonic-prost = "0.14"

[build-dependencies]
protox = "0.10"
tonic-prost-build = { version = "0.14", default-features = false }
"""),
    "build.rs": Template("""\
//! Makes the generated code, after each change of a .proto file. It is in target/.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["$file"], ["proto"$include])?;
    tonic_prost_build::configure()
        .include_file("all-packages.rs")
        .compile_fds(files)?;
    Ok(())
}
"""),
    "Makefile": Template("""\
.PHONY: bootstrap build-Function

# What bridge.yaml starts. It is replaced at once, since it may be running.
bootstrap:
	cargo build
	cp target/debug/bootstrap bootstrap.new
	mv bootstrap.new bootstrap

# What `sam build` runs. It needs cargo-lambda: python -m pip install cargo-lambda
build-Function:
	cargo lambda build --release
	cp target/lambda/bootstrap/bootstrap $$(ARTIFACTS_DIR)/
"""),
    "README.md": Template("""\
# $name

$services on AWS Lambda. `proto/$proto` is the interface, `src/main.rs` has the methods.

```sh
cargo test                                       # calls the methods in this process
make bootstrap                                   # cargo build, after each change of the code or of the .proto
grpc-lambda-bridge serve                         # runs the function, for gRPC clients of localhost:50051
grpc-lambda-bridge call $call '$json'
sam build && sam deploy --guided                 # then write the function's ARN into bridge.yaml
```

`call` needs a second terminal. `sam build` needs cargo-lambda (`pip install cargo-lambda`). Requests arrive as gRPC-Web
in the events of a function URL, replies are streamed. All four kinds of method work. A stream of requests arrives as a
whole, so there is no full duplex.
"""),
    ".gitignore": Template("""\
.aws-sam/
/bootstrap
/target/
"""),
}
