"""A function in Go: an interface in, the texts of its files out.

connect-go serves the methods, and aws-lambda-go's lambdaurl brings the events. Each .proto file becomes a Go package of
its own: files cannot import each other in a circle, and the packages of two files never share a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import EnumDescriptorProto, FieldDescriptorProto

from bridge.commands.scaffold.folder import (
    PROTO,
    STREAMED_DEFAULTS,
    THIRD_PARTY,
    bridge_yaml,
    proto_texts,
    template_yaml,
    words_of,
)
from bridge.commands.scaffold.interface import DeclaredService, DeclaredType, Interface, Method, required_fields
from bridge.commands.scaffold.toolchain import require, run_tool, texts_in, write_all

FILES = (
    *(".gitignore", "README.md", "bridge.yaml", "function.go", "function_test.go"),
    *("generate.sh", "go.mod", "go.sum", "main.go", "template.yaml"),
)
"""What it always writes."""
STEPS = ("go test ./...", "go build -o bootstrap .", "grpc-lambda-bridge serve")

_Field = FieldDescriptorProto
_MESSAGES = (_Field.TYPE_MESSAGE, _Field.TYPE_GROUP)
_POINTERS = {
    _Field.TYPE_STRING: 'proto.String("")',
    _Field.TYPE_BOOL: "proto.Bool(false)",
    _Field.TYPE_DOUBLE: "proto.Float64(0)",
    _Field.TYPE_FLOAT: "proto.Float32(0)",
    _Field.TYPE_BYTES: "[]byte{}",
    **dict.fromkeys((_Field.TYPE_INT32, _Field.TYPE_SINT32, _Field.TYPE_SFIXED32), "proto.Int32(0)"),
    **dict.fromkeys((_Field.TYPE_INT64, _Field.TYPE_SINT64, _Field.TYPE_SFIXED64), "proto.Int64(0)"),
    **dict.fromkeys((_Field.TYPE_UINT32, _Field.TYPE_FIXED32), "proto.Uint32(0)"),
    **dict.fromkeys((_Field.TYPE_UINT64, _Field.TYPE_FIXED64), "proto.Uint64(0)"),
}
_METHODS_OF_MESSAGES = frozenset(
    ("Reset", "String", "ProtoMessage", "Marshal", "Unmarshal", "ExtensionRangeArray", "ExtensionMap", "Descriptor")
)
"""Names of fields that protoc-gen-go gives an underscore."""
_PACKAGES_WITH_MEANING = frozenset(("internal", "vendor", "testdata"))
"""Folders that Go treats in a way of its own."""


def files_of(name: str, interface: Interface, *, greets: bool) -> dict[str, str]:
    """Return the files of the function, by their paths in its folder. Runs Go. Raises CommandFailed."""
    require("go", "Go 1.26 or later from https://go.dev/dl/")
    texts = texts_of(name, interface, greets=greets)
    return texts | _made_by_go(texts)


def texts_of(name: str, interface: Interface, *, greets: bool) -> dict[str, str]:
    """Return the files that no tool of Go makes."""
    code = _Code(name, interface, greets=greets)
    words = words_of(name, interface, greets=greets) | {
        "options": "".join(f",\\\nM{file}={name}/{path}" for file, path in code.own_packages.items()),
        "files": " ".join(interface.own_files),
        "include": f" -I {THIRD_PARTY}" if interface.third_party else "",
    }
    texts = {path: template.substitute(words) for path, template in _TEMPLATES.items()}
    texts |= proto_texts(interface)
    texts["bridge.yaml"] = bridge_yaml(words, 'command: ["./bootstrap"]', built="bootstrap", defaults=STREAMED_DEFAULTS)
    texts["template.yaml"] = template_yaml(words, handler="bootstrap", runtime="provided.al2023", build_method="go1.x")
    texts["function.go"] = code.function()
    texts["function_test.go"] = code.tests()
    return texts


def _made_by_go(texts: dict[str, str]) -> dict[str, str]:
    """Return the generated code, and go.mod and go.sum."""
    with TemporaryDirectory(prefix="bridge-new-") as scratch:
        folder = Path(scratch)
        write_all(folder, texts)
        run_tool(["go", "mod", "tidy", "-e"], folder)  # -e: the generated code, which others import, is still missing
        run_tool(["sh", "generate.sh"], folder)
        write_all(folder, {"go.mod": texts["go.mod"]})  # as it was, without the marks of the first run
        run_tool(["go", "mod", "tidy"], folder)
        own = {path: (folder / path).read_text() for path in ("go.mod", "go.sum")}
        return own | texts_in(folder, "gen")


def go_name(name: str) -> str:
    """Return the Go identifier of a name in a .proto, as protoc-gen-go makes it (GoCamelCase of protobuf's
    internal/strs). A dot stands between the names of nested messages.
    """
    return _PIECES.sub(_go_piece, name)


_PIECES = re.compile(r"(?P<first>(?:^|(?<=\.))_)|(?P<left_out>[._](?=[a-z]))|(?P<dot>\.)|(?P<word>\d|[^.][a-z]*)")


def _go_piece(found: re.Match[str]) -> str:
    match found.lastgroup:
        case "first":
            return "X"
        case "left_out":
            return ""
        case "dot":
            return "_"
        case _:
            return found[0][0].upper() + found[0][1:]


class _Code:
    """Writes the code that depends on the interface."""

    def __init__(self, name: str, interface: Interface, *, greets: bool) -> None:
        self._name = name
        self._interface = interface
        self._greets = greets
        self.own_packages: dict[str, str] = {}
        """The folder of each own file's Go package."""
        for file in sorted(interface.own_files, key=lambda each: each != interface.file):
            path = _package_path(file)
            while path in self.own_packages.values():
                path += "2"
            self.own_packages[file] = path
        self._aliases: dict[str, str] = {}
        """The name of each imported package, by its path."""
        self._uses_proto = False

    # -- function.go --

    def function(self) -> str:
        self._aliases = {}
        self._uses_proto = False
        services = "\n".join(self._service(service) for service in self._interface.services)
        routes = "".join(
            f"\tmux.Handle({self._connect()}.New{go_name(service.name)}Handler"
            f"({go_name(service.name)}Service{{}}, options...))\n"
            for service in self._interface.services
        )
        methods = [method for service in self._interface.services for method in service.methods]
        both = any(method.streams_requests and method.streams_replies for method in methods)
        standard = ["net/http", *(("context",) if methods else ()), *(("errors", "io") if both else ())]
        return (
            f"// The methods of {PROTO}/{self._interface.file}.\n\npackage main\n\n"
            + self._imports(standard, ["connectrpc.com/connect"])
            + services
            + "\n// routes returns the handlers of all services.\n"
            "func routes(options ...connect.HandlerOption) http.Handler {\n"
            f"\tmux := http.NewServeMux()\n{routes}\treturn mux\n}}\n"
        )

    def _service(self, service: DeclaredService) -> str:
        name = f"{go_name(service.name)}Service"
        head = (
            f"// {name} answers the calls of {service.full_name}.\n"
            f"type {name} struct {{\n\t{self._connect()}.Unimplemented{go_name(service.name)}Handler\n}}\n"
        )
        return head + "".join(f"\n{self._method(name, method)}" for method in service.methods)

    def _method(self, receiver: str, method: Method) -> str:
        request, reply = self._type(method.request), self._type(method.reply)
        name = go_name(method.name)
        match method.streams_requests, method.streams_replies:
            case False, False:
                taken, given = f"request *{request}", f"(*{reply}, error)"
            case False, True:
                taken, given = f"request *{request}, stream *connect.ServerStream[{reply}]", "error"
            case True, False:
                taken, given = f"stream *connect.ClientStream[{request}]", f"(*{reply}, error)"
            case _:
                taken, given = f"stream *connect.BidiStream[{request}, {reply}]", "error"
        head = f"func ({receiver}) {name}(ctx context.Context, {taken}) {given} {{\n"
        return head + "".join(f"\t{line}\n" for line in self._body(method)) + "}\n"

    def _body(self, method: Method) -> list[str]:
        if self._greets:
            return [f'return &{self._type(method.reply)}{{Message: "Hello, " + request.GetName() + "!"}}, nil']
        reply = self._example(method.reply)
        hint = f"// Write here what {go_name(method.name)} does."
        match method.streams_requests, method.streams_replies:
            case False, False:
                return [hint, f"return {reply}, nil"]
            case False, True:
                return [hint, f"return stream.Send({reply})"]
            case True, False:
                return [hint, "for stream.Receive() {", "\t_ = stream.Msg()", "}", f"return {reply}, stream.Err()"]
            case _:
                return [
                    hint,
                    "for {",
                    "\t_, err := stream.Receive()",
                    "\tif errors.Is(err, io.EOF) {",
                    "\t\treturn nil",
                    "\t}",
                    "\tif err != nil {",
                    "\t\treturn err",
                    "\t}",
                    f"\tif err := stream.Send({reply}); err != nil {{",
                    "\t\treturn err",
                    "\t}",
                    "}",
                ]

    # -- function_test.go --

    def tests(self) -> str:
        self._aliases = {}
        self._uses_proto = False
        tests = [self._test(service, method) for service in self._interface.services for method in service.methods]
        return (
            "// Calls the methods in this process, with connect-go's client and gRPC-Web.\n\npackage main\n\n"
            + self._imports(
                ["net/http", "net/http/httptest", "testing", *(("context",) if tests else ())],
                ["connectrpc.com/connect"],
            )
            + _SERVED
            + "".join(f"\n{test}" for test in tests)
        )

    def _test(self, service: DeclaredService, method: Method) -> str:
        name = go_name(method.name)
        request = self._example(method.request)
        if self._greets:
            request = f'&{self._type(method.request)}{{Name: "world"}}'
        lines = [
            "client, url, option := served(t)",
            f"service := {self._connect()}.New{go_name(service.name)}Client(client, url, option)",
        ]
        match method.streams_requests, method.streams_replies:
            case False, False:
                call = f"service.{name}(context.Background(), {request})"
                if self._greets:
                    lines += [f"reply, err := {call}", *_FAILS_IF_ERR, *_EXPECTS_GREETING]
                else:
                    lines += [f"if _, err := {call}; err != nil {{", *_FATAL]
            case False, True:
                lines += [f"stream, err := service.{name}(context.Background(), {request})", *_FAILS_IF_ERR]
                lines += ["replies := 0", "for stream.Receive() {", "\treplies++", "}", *_EXPECTS_ONE]
            case True, False:
                lines += [*self._opened(name), f"if err := stream.Send({request}); err != nil {{", *_FATAL]
                lines += ["if _, err := stream.CloseAndReceive(); err != nil {", *_FATAL]
            case _:
                lines += [*self._opened(name), f"if err := stream.Send({request}); err != nil {{", *_FATAL]
                lines += ["if err := stream.CloseRequest(); err != nil {", *_FATAL]
                lines += ["if _, err := stream.Receive(); err != nil {", *_FATAL]
        head = f"func Test{go_name(service.name)}_{name}(t *testing.T) {{\n"
        return head + "".join(f"\t{line}\n" for line in lines) + "}\n"

    @staticmethod
    def _opened(name: str) -> list[str]:
        return [f"stream, err := service.{name}(context.Background())", *_FAILS_IF_ERR]

    # -- packages and messages --

    def _imports(self, standard: list[str], others: list[str]) -> str:
        """Return the block of imports, for all packages that the code written so far names."""
        if self._uses_proto:
            others = [*others, "google.golang.org/protobuf/proto"]
        lines = {path: path.rpartition("/")[2] for path in others} | self._aliases
        own = {path: alias for path, alias in lines.items() if path.startswith(f"{self._name}/")}
        foreign = {path: alias for path, alias in lines.items() if path not in own}
        groups = [dict.fromkeys(standard, ""), foreign, own]
        return "import (\n" + "\n".join(_import_lines(group) for group in groups if group) + ")\n\n"

    def _connect(self) -> str:
        path = f"{self._name}/{self.own_packages[self._interface.file]}"
        return self._alias(f"{path}/{path.rpartition('/')[2]}connect")

    def _alias(self, path: str, package: str = "") -> str:
        if path not in self._aliases:
            name = package or path.rpartition("/")[2]
            if name in self._aliases.values() or name in _TAKEN:
                # Two packages of one name, in different folders.
                name = re.sub(r"[^a-z0-9]+", "_", path.lower())
            self._aliases[path] = name
        return self._aliases[path]

    def _package(self, file: str) -> str:
        if file in self.own_packages:
            return self._alias(f"{self._name}/{self.own_packages[file]}")
        path, _, name = self._interface.files[file].options.go_package.partition(";")
        return self._alias(path, name)

    def _type(self, name: str) -> str:
        message = self._interface.types[name]
        return f"{self._package(message.file)}.{go_name('.'.join(message.path))}"

    def _example(self, name: str, depth: int = 0) -> str:
        """Return an expression for a message that can be sent: its required fields have values."""
        fields = required_fields(self._interface.types[name]) if depth <= 10 else []
        values = ", ".join(f"{_field_name(field)}: {self._value(field, depth)}" for field in fields)
        return f"&{self._type(name)}{{{values}}}"

    def _value(self, field: FieldDescriptorProto, depth: int) -> str:
        name = field.type_name.removeprefix(".")
        if field.type in _MESSAGES:
            return self._example(name, depth + 1)
        if field.type == _Field.TYPE_ENUM:
            return f"{self._enum_value(self._interface.types[name])}.Enum()"
        self._uses_proto |= field.type != _Field.TYPE_BYTES
        return _POINTERS[field.type]

    def _enum_value(self, message: DeclaredType) -> str:
        """Values of a nested enum are named after the message around it."""
        assert isinstance(message.descriptor, EnumDescriptorProto)
        around = message.path[:-1] or message.path
        return f"{self._package(message.file)}.{go_name('.'.join(around))}_{message.descriptor.value[0].name}"


_TAKEN = frozenset(("connect", "context", "errors", "http", "httptest", "io", "main", "proto", "testing"))


def _import_lines(packages: Mapping[str, str]) -> str:
    return "".join(
        f'\t"{path}"\n' if alias in ("", path.rpartition("/")[2]) else f'\t{alias} "{path}"\n'
        for path, alias in sorted(packages.items())
    )


def _package_path(file: str) -> str:
    *folders, stem = file.removesuffix(".proto").split("/")
    name = re.sub(r"[^a-z0-9]", "", stem.lower())
    parts = [re.sub(r"[^A-Za-z0-9-]", "_", folder).lstrip("_-") or "x" for folder in folders]
    parts = [f"{part}_" if part in _PACKAGES_WITH_MEANING else part for part in parts]
    return "/".join(("gen", *parts, f"{name}pb" if name[:1].isalpha() else f"p{name}pb"))


def _field_name(field: FieldDescriptorProto) -> str:
    name = go_name(field.name)
    return f"{name}_" if name in _METHODS_OF_MESSAGES else name


_FATAL = ("\tt.Fatal(err)", "}")
_FAILS_IF_ERR = ("if err != nil {", *_FATAL)
_EXPECTS_GREETING = (
    'if reply.GetMessage() != "Hello, world!" {',
    '\tt.Errorf("unexpected reply: %v", reply)',
    "}",
)
_EXPECTS_ONE = (
    "if err := stream.Err(); err != nil || replies != 1 {",
    '\tt.Errorf("%d replies, then %v", replies, err)',
    "}",
)

_SERVED = """\
// served starts the methods as Lambda sees them.
func served(t *testing.T) (*http.Client, string, connect.ClientOption) {
	server := httptest.NewUnstartedServer(onLambda(routes()))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Client(), server.URL, connect.WithGRPCWeb()
}
"""

_TEMPLATES: Mapping[str, Template] = {
    "main.go": Template("""\
// Command bootstrap is the function $name on AWS Lambda. The methods are in function.go.
package main

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	"github.com/aws/aws-lambda-go/lambdaurl"
)

func main() {
	lambdaurl.Start(onLambda(routes(connect.WithRecover(recovered))))
}

// recovered makes a panic the status of one call. Without it the process would end.
func recovered(_ context.Context, _ connect.Spec, _ http.Header, cause any) error {
	return connect.NewError(connect.CodeInternal, fmt.Errorf("panic: %v", cause))
}

// onLambda lets connect-go serve events. It refuses streams in both directions over HTTP/1.1, but an event has the
// whole request, so nothing has to flow in both directions at once.
func onLambda(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		request.Proto, request.ProtoMajor, request.ProtoMinor = "HTTP/2.0", 2, 0
		handler.ServeHTTP(flushing{writer}, request)
	})
}

// flushing has the method that connect-go's streams need. lambdaurl holds nothing back.
type flushing struct{ http.ResponseWriter }

func (flushing) Flush() {}
"""),
    "go.mod": Template("""\
module $name

go 1.26.0

require (
	connectrpc.com/connect v1.21.1
	github.com/aws/aws-lambda-go v1.55.1
	google.golang.org/protobuf v1.36.12
)

tool (
	connectrpc.com/connect/cmd/protoc-gen-connect-go
	google.golang.org/protobuf/cmd/protoc-gen-go
)
"""),
    "generate.sh": Template("""\
#!/bin/sh
# Makes the generated code in gen/ again, after a change of a .proto file. protoc comes with grpc-lambda-bridge.
set -e
cd "$$(dirname "$$0")"
plugins=$$(mktemp -d)
trap 'rm -rf "$$plugins"' EXIT
go build -o "$$plugins/" tool
PATH="$$plugins:$$PATH"
if python3 -c "import grpc_tools" 2>/dev/null; then
  protoc() { python3 -m grpc_tools.protoc "$$@"; }
elif ! command -v protoc >/dev/null; then
  echo "there is no protoc: activate the environment of grpc-lambda-bridge, or install protoc" >&2
  exit 1
fi
options="module=$name$options"
protoc -I proto$include --go_out=. --go_opt="$$options" \\
  --connect-go_out=. --connect-go_opt="$$options,simple" \\
  $files
"""),
    "README.md": Template("""\
# $name

$services on AWS Lambda. `proto/$proto` is the interface, `function.go` has the methods.

```sh
go test ./...                                    # calls the methods in this process
go build -o bootstrap .                          # after each change
grpc-lambda-bridge serve                         # runs the function, for gRPC clients of localhost:50051
grpc-lambda-bridge call $call '$json'
sh generate.sh                                   # after a change of the .proto
sam build && sam deploy --guided                 # then write the function's ARN into bridge.yaml
```

`call` needs a second terminal. Requests arrive as gRPC-Web in the events of a function URL, replies are streamed. All
four kinds of method work. A stream of requests arrives as a whole, so there is no full duplex.
"""),
    ".gitignore": Template("""\
.aws-sam/
/bootstrap
"""),
}
