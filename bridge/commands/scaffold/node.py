"""A function for Node.js: an interface in, the texts of its files out.

Connect for Node serves the methods. A short adapter, which is part of the folder, makes its requests from events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import EnumDescriptorProto, FieldDescriptorProto

from bridge.commands.failure import CommandFailed
from bridge.commands.scaffold.folder import (
    PROTO,
    THIRD_PARTY,
    bridge_yaml,
    names_in,
    proto_texts,
    template_yaml,
    words_of,
)
from bridge.commands.scaffold.interface import DeclaredService, Interface, Method, required_fields
from bridge.commands.scaffold.toolchain import require, run_tool, texts_in, write_all

FILES = (
    *(".gitignore", "README.md", "bridge.yaml", "generate.sh", "index.js"),
    *("index.test.js", "lambda.js", "package.json", "template.yaml"),
)
"""What it always writes."""
STEPS = ("npm install", "npm test", "grpc-lambda-bridge serve")

_Field = FieldDescriptorProto
_LONGS = frozenset(
    (_Field.TYPE_INT64, _Field.TYPE_SINT64, _Field.TYPE_SFIXED64, _Field.TYPE_UINT64, _Field.TYPE_FIXED64)
)

_RESERVED = names_in(
    "break case catch class const continue debugger default delete do else export extends false finally for function if"
    " import in instanceof new null return super switch this throw true try typeof var void while with yield enum"
    " implements interface let package private protected public static Object bigint number boolean string object"
    " globalThis Uint8Array Partial"
)
"""Names that protoc-gen-es gives a dollar sign (safeIdentifier of @bufbuild/protoplugin)."""
_UNREADABLE = names_in("arguments await eval")
"""Names that no module may export as they are, and that protoc-gen-es does not change."""
_PROPERTIES = frozenset(("constructor", "toString", "toJSON", "valueOf"))
"""Names of methods and fields that @bufbuild/protobuf gives a dollar sign (safeObjectProperty)."""
_TAKEN = names_in(
    "Buffer Error Headers Map Object Request assert createClient createRouterTransport handler"
    " lambdaHandler routes test transport"
)
"""Names that the code has for other things than services."""


def files_of(name: str, interface: Interface, *, greets: bool) -> dict[str, str]:
    """Return the files of the function, by their paths in its folder. Runs npm. Raises CommandFailed."""
    require("node", "Node.js 20 or later from https://nodejs.org")
    require("npm", "npm, which comes with Node.js from https://nodejs.org")
    texts = texts_of(name, interface, greets=greets)
    with TemporaryDirectory(prefix="bridge-new-") as scratch:
        folder = Path(scratch)
        write_all(folder, texts)
        run_tool(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"], folder)
        run_tool(["sh", "generate.sh"], folder)
        return texts | texts_in(folder, "gen")


def texts_of(name: str, interface: Interface, *, greets: bool) -> dict[str, str]:
    """Return the files that no tool of Node.js makes. Raises CommandFailed."""
    for service in interface.services:
        if service.name in _UNREADABLE:
            raise CommandFailed(
                f"{interface.file}: protoc-gen-es makes code that Node.js cannot read of a service named"
                f" {service.name!r}; rename the service",
                exit_code=2,
            )
    code = _Code(interface, greets=greets)
    words = words_of(name, interface, greets=greets) | {
        "package": json.dumps(name.lower()),
        "files": " ".join((*interface.own_files, *interface.third_party)),
        "include": f" -I {THIRD_PARTY}" if interface.third_party else "",
    }
    texts = {path: template.substitute(words) for path, template in _TEMPLATES.items()}
    texts |= proto_texts(interface)
    texts["bridge.yaml"] = bridge_yaml(words, "handler: index.handler", defaults=_DEFAULTS)
    texts["template.yaml"] = template_yaml(words, handler="index.handler", runtime="nodejs22.x")
    texts["index.js"] = code.index()
    texts["index.test.js"] = code.tests()
    return texts


def property_name(name: str) -> str:
    """Return the name that a method or a field of a .proto has in JavaScript, as @bufbuild/protobuf makes it."""
    return f"{name}$" if name in _PROPERTIES else name


def camel_name(name: str) -> str:
    """Return the name of a field, as protoc makes its JSON name."""
    first, *others = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in others)


class _Code:
    """Writes the code that depends on the interface."""

    def __init__(self, interface: Interface, *, greets: bool) -> None:
        self._interface = interface
        self._greets = greets

    # -- index.js --

    def index(self) -> str:
        services = "".join(self._service(service) for service in self._interface.services)
        return (
            f"// The function: the methods of {PROTO}/{self._interface.file}.\n\n"
            f'{self._import()}import {{ lambdaHandler }} from "./lambda.js";\n\n'
            "/** Adds the services to a router of Connect. */\n"
            f"export function routes(router) {{\n{services}}}\n\n"
            "export const handler = lambdaHandler(routes); // what Lambda calls\n"
        )

    def _import(self) -> str:
        names = sorted(_import_of(service) for service in self._interface.services)
        return f'import {{ {", ".join(names)} }} from "./gen/{self._interface.file.removesuffix(".proto")}_pb.js";\n'

    def _service(self, service: DeclaredService) -> str:
        methods = "".join(self._method(method) for method in service.methods)
        body = f"{{\n{methods}  }}" if methods else "{}"
        return f"  router.service({_name_of(service)}, {body});\n"

    def _method(self, method: Method) -> str:
        star = "*" if method.streams_replies else ""
        taken = "requests" if method.streams_requests else "request"
        head = f"    async {star}{_method_name(method)}({taken}, context) {{\n"
        return head + "".join(f"      {line}\n" for line in self._body(method)) + "    },\n"

    def _body(self, method: Method) -> list[str]:
        if self._greets:
            return ["return { message: `Hello, ${request.name}!` };"]
        reply = self._example(method.reply)
        hint = f"// Write here what {method.name} does."
        match method.streams_requests, method.streams_replies:
            case False, False:
                return [hint, f"return {reply};"]
            case False, True:
                return [hint, f"yield {reply};"]
            case True, False:
                return ["for await (const request of requests) {", f"  {hint}", "}", f"return {reply};"]
            case _:
                return ["for await (const request of requests) {", f"  {hint}", f"  yield {reply};", "}"]

    # -- index.test.js --

    def tests(self) -> str:
        tests = [self._test(service, method) for service in self._interface.services for method in service.methods]
        return (
            "// Calls the methods in this process, with Connect's client.\n\n"
            'import assert from "node:assert/strict";\nimport { test } from "node:test";\n\n'
            'import { createClient, createRouterTransport } from "@connectrpc/connect";\n\n'
            f'{self._import()}import {{ routes }} from "./index.js";\n\n'
            "const transport = createRouterTransport(routes);\n" + "".join(f"\n{test}" for test in tests)
        )

    def _test(self, service: DeclaredService, method: Method) -> str:
        request = '{ name: "world" }' if self._greets else self._example(method.request)
        lines = [f"const client = createClient({_name_of(service)}, transport);"]
        if method.streams_requests:
            lines += ["async function* requests() {", f"  yield {request};", "}"]
            request = "requests()"
        call = f"client.{_method_name(method)}({request})"
        if self._greets:
            lines += [f"const reply = await {call};", 'assert.equal(reply.message, "Hello, world!");']
        elif method.streams_replies:
            lines += ["const replies = [];", f"for await (const reply of {call}) replies.push(reply.$typeName);"]
            lines += [f'assert.deepEqual(replies, ["{method.reply}"]);']
        else:
            lines += [f"const reply = await {call};", f'assert.equal(reply.$typeName, "{method.reply}");']
        title = f"{service.name}.{method.name}"
        return f'test("{title}", async () => {{\n' + "".join(f"  {line}\n" for line in lines) + "});\n"

    # -- messages --

    def _example(self, name: str, depth: int = 0) -> str:
        """Return an object for a message that can be sent: its required fields have values."""
        fields = required_fields(self._interface.types[name]) if depth <= 10 else []
        values = ", ".join(f"{property_name(camel_name(f.name))}: {self._value(f, depth)}" for f in fields)
        return f"{{ {values} }}" if values else "{}"

    def _value(self, field: FieldDescriptorProto, depth: int) -> str:
        name = field.type_name.removeprefix(".")
        match field.type:
            case _Field.TYPE_MESSAGE | _Field.TYPE_GROUP:
                return self._example(name, depth + 1)
            case _Field.TYPE_ENUM:
                descriptor = self._interface.types[name].descriptor
                assert isinstance(descriptor, EnumDescriptorProto)
                return str(descriptor.value[0].number)
            case _Field.TYPE_STRING:
                return '""'
            case _Field.TYPE_BYTES:
                return "new Uint8Array()"
            case _Field.TYPE_BOOL:
                return "false"
            case _:
                return "0n" if field.type in _LONGS else "0"


def _exported(service: DeclaredService) -> str:
    return f"{service.name}$" if service.name in _RESERVED else service.name


def _name_of(service: DeclaredService) -> str:
    return f"{service.name}Service" if service.name in _TAKEN else _exported(service)


def _import_of(service: DeclaredService) -> str:
    exported, name = _exported(service), _name_of(service)
    return exported if exported == name else f"{exported} as {name}"


def _method_name(method: Method) -> str:
    return property_name(method.name[:1].lower() + method.name[1:])


_DEFAULTS = f"""\
# The function does not describe its services itself.
defaults:
  descriptors: {PROTO}
"""

_TEMPLATES: Mapping[str, Template] = {
    "lambda.js": Template("""\
// Makes requests of Connect's handlers from Lambda's events, and replies for Lambda from their responses. Function
// URLs, HTTP APIs and grpc-lambda-bridge send such events.

import { createConnectRouter } from "@connectrpc/connect";
import { createFetchHandler } from "@connectrpc/connect/protocol";

/** Returns a Lambda handler that answers gRPC-Web and Connect, for the services that `routes` adds to a router. */
export function lambdaHandler(routes) {
  const router = createConnectRouter();
  routes(router);
  // Connect refuses streams in both directions over HTTP/1.1. But an event has the whole request, so nothing has to
  // flow in both directions at once.
  const methods = new Map(
    router.handlers.map((handler) => [handler.requestPath, createFetchHandler(handler, { httpVersion: "2.0" })]),
  );
  return async (event) => {
    const method = methods.get(event.rawPath);
    return method === undefined ? { statusCode: 404 } : replyOf(await method(requestOf(event)));
  };
}

function requestOf(event) {
  const { domainName, http } = event.requestContext;
  const query = event.rawQueryString ? `?$${event.rawQueryString}` : "";
  const headers = new Headers(event.headers);
  for (const [name, values] of Object.entries(event.multiValueHeaders ?? {})) headers.set(name, values.join(", "));
  if (event.cookies) headers.set("cookie", event.cookies.join("; "));
  const body = event.body ? Buffer.from(event.body, event.isBase64Encoded ? "base64" : "utf8") : undefined;
  const url = `https://$${domainName ?? "lambda"}$${event.rawPath}$${query}`;
  return new Request(url, { method: http.method, headers, body });
}

async function replyOf(response) {
  const headers = Object.fromEntries(response.headers);
  delete headers["set-cookie"];
  return {
    statusCode: response.status,
    headers,
    cookies: response.headers.getSetCookie(),
    body: Buffer.from(await response.arrayBuffer()).toString("base64"),
    isBase64Encoded: true,
  };
}
"""),
    "package.json": Template("""\
{
  "name": $package,
  "private": true,
  "type": "module",
  "scripts": {
    "test": "node --test",
    "generate": "sh generate.sh"
  },
  "dependencies": {
    "@bufbuild/protobuf": "2.17.0",
    "@connectrpc/connect": "2.3.0"
  },
  "devDependencies": {
    "@bufbuild/protoc-gen-es": "2.17.0"
  }
}
"""),
    "generate.sh": Template("""\
#!/bin/sh
# Makes the generated code in gen/ again, after a change of a .proto file. protoc comes with grpc-lambda-bridge.
set -e
cd "$$(dirname "$$0")"
mkdir -p gen
if python3 -c "import grpc_tools" 2>/dev/null; then
  protoc() { python3 -m grpc_tools.protoc "$$@"; }
elif ! command -v protoc >/dev/null; then
  echo "there is no protoc: activate the environment of grpc-lambda-bridge, or install protoc" >&2
  exit 1
fi
protoc -I proto$include --plugin=protoc-gen-es=node_modules/.bin/protoc-gen-es \\
  --es_out=gen --es_opt=target=js+dts,import_extension=js \\
  $files
"""),
    "README.md": Template("""\
# $name

$services on AWS Lambda. `proto/$proto` is the interface, `index.js` has the methods.

```sh
npm install
npm test                                         # calls the methods in this process
grpc-lambda-bridge serve                         # runs the function, for gRPC clients of localhost:50051
grpc-lambda-bridge call $call '$json'
npm run generate                                 # after a change of the .proto
sam build && sam deploy --guided                 # then write the function's ARN into bridge.yaml
```

`call` needs a second terminal. Requests arrive as gRPC-Web in the events of a function URL. All four kinds of method
work. Streams arrive as a whole in both directions, at most 6 MB, so there is no full duplex.
"""),
    ".gitignore": Template("""\
.aws-sam/
node_modules/
"""),
}
