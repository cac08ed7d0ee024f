"""A function in Python: an interface in, the texts of its files out."""

from __future__ import annotations

import keyword
import re
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import version
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import EnumDescriptorProto, FieldDescriptorProto

from bridge.commands.failure import CommandFailed
from bridge.commands.scaffold.folder import bridge_yaml, template_yaml, words_of
from bridge.commands.scaffold.interface import (
    DeclaredService,
    DeclaredType,
    Interface,
    Method,
    generate,
    required_fields,
)

FILES: tuple[str, ...] = ()
"""What must not exist before tools run: no tool runs that takes long."""
STEPS = ("python -m pip install -r requirements-dev.txt", "python -m pytest", "grpc-lambda-bridge serve")

_Field = FieldDescriptorProto

_TAKEN = frozenset(("Iterator", "LambdaServer", "grpc", "handler", "server"))
"""Names that app.py has for other things than services."""

_TEXTS = frozenset((_Field.TYPE_STRING,))
_BYTES = frozenset((_Field.TYPE_BYTES,))
_FRACTIONS = frozenset((_Field.TYPE_DOUBLE, _Field.TYPE_FLOAT))

_protobuf_version = re.compile(r"^# Protobuf Python Version: (\S+)$", re.MULTILINE).search

_HELLO = "Hello, {request.name}!"


def files_of(name: str, interface: Interface, *, greets: bool) -> dict[str, str]:
    """Return the files of the function, by their paths in its folder.

    `greets`: the interface is the example that `new` writes by itself, so its method has something to say. Raises
    CommandFailed.
    """
    code = _Code(interface, greets=greets)
    generated = _generated(interface)
    (found,) = (text for path, text in generated.items() if path == f"{_stem(interface.file)}_pb2.py")
    protobuf = _protobuf_version(found)
    words = words_of(name, interface, greets=greets) | {
        "module": code.module,
        "files": " ".join(interface.own_files),
        "include": _INCLUDE if interface.third_party else "",
        "googleapis": "googleapis-common-protos>=1.60\n" if interface.third_party else "",
        "grpcio": version("grpcio-tools"),
        "protobuf": protobuf[1] if protobuf else version("protobuf"),
    }
    handler = f"{code.module}.handler"
    texts = {path: template.substitute(words) for path, template in _TEMPLATES.items()}
    texts["bridge.yaml"] = bridge_yaml(words, f"handler: {handler}")
    texts["template.yaml"] = template_yaml(words, handler=handler, runtime="python3.13")
    own = {each: (interface.root / each).read_text() for each in interface.own_files}
    return {**own, **generated, f"{code.module}.py": code.app(), f"test_{code.module}.py": code.tests(), **texts}


def _generated(interface: Interface) -> dict[str, str]:
    for file in interface.own_files:
        _check_importable(file)
    rpcs = [("rpc", method.name) for service in interface.services for method in service.methods]
    for kind, name in [("service", service.name) for service in interface.services] + rpcs:
        if keyword.iskeyword(name):
            raise CommandFailed(
                f"{interface.file}: grpcio makes code that Python cannot read, because the name of the {kind} {name!r}"
                f" is a keyword; rename the {kind}",
                exit_code=2,
            )
    with TemporaryDirectory(prefix="bridge-new-") as scratch:
        generate(interface, Path(scratch))
        paths = sorted(path for path in Path(scratch).rglob("*") if path.is_file())
        return {path.relative_to(scratch).as_posix(): path.read_text() for path in paths}


def _installed(name: str) -> ModuleSpec | None:
    """Return the package of this name that comes with Python or is installed. What this process has loaded from
    elsewhere does not count.
    """
    paths = sysconfig.get_paths()
    return PathFinder.find_spec(name, [paths["stdlib"], paths["purelib"], paths["platlib"]])


def _check_importable(file: str) -> None:
    """Check that Python can import the generated code of a file. Raises CommandFailed."""
    folders = _stem(file).split("/")[:-1]
    for folder in folders:
        if keyword.iskeyword(folder) or not folder.isidentifier():
            raise CommandFailed(
                f"{file}: Python cannot import generated code from a folder named {folder!r}; rename the folder and the"
                " imports that name it",
                exit_code=2,
            )
    found = _installed(folders[0]) if folders else None
    if found is not None and found.origin is not None:
        raise CommandFailed(
            f"{file}: Python would import its own package {folders[0]!r} in place of the folder with generated code;"
            " rename the folder and the imports that name it",
            exit_code=2,
        )


def _stem(file: str) -> str:
    """Return the path of generated code, without its ending (protoc writes underscores for dashes)."""
    return file.removesuffix(".proto").replace("-", "_")


class _Code:
    """Writes the code that depends on the interface."""

    def __init__(self, interface: Interface, *, greets: bool) -> None:
        self._interface = interface
        self._greets = greets
        used = [message for service in interface.services for message in self._messages_of(service)]
        files = dict.fromkeys((interface.file, *(message.file for message in used)))
        modules = {file: f"{_stem(file)}_pb2".split("/") for file in files}
        last = [module[-1] for module in modules.values()]
        # Two files of one name, in different folders, need names of their own.
        self._aliases = {
            file: module[-1] if last.count(module[-1]) == 1 else "_".join(module) for file, module in modules.items()
        }
        self._modules = modules
        folders = {file.partition("/")[0] for file in interface.own_files if "/" in file}
        self.module = "function" if "app" in folders else "app"
        """The name of the module with the handler. A module hides a folder of its name."""

    def _messages_of(self, service: DeclaredService) -> Iterator[DeclaredType]:
        for method in service.methods:
            for name in (method.request, method.reply):
                yield from self._needed(name)

    def _needed(self, name: str, depth: int = 0) -> Iterator[DeclaredType]:
        message = self._interface.types[name]
        yield message
        if isinstance(message.descriptor, EnumDescriptorProto) or depth > 10:
            return
        for field in required_fields(message):
            if field.type in (_Field.TYPE_MESSAGE, _Field.TYPE_GROUP):
                yield from self._needed(field.type_name.removeprefix("."), depth + 1)

    # -- app.py --

    def app(self) -> str:
        methods = [method for service in self._interface.services for method in service.methods]
        streams = any(method.streams_requests or method.streams_replies for method in methods)
        classes = "\n\n".join(self._servicer(service) for service in self._interface.services)
        grpc_module = self._grpc_module()
        adds = "".join(
            f"{grpc_module}.add_{service.name}Servicer_to_server({_class_of(service)}(), server)\n"
            for service in self._interface.services
        )
        return (
            f'"""The function: the methods of {self._interface.file}."""\n\n'
            "from __future__ import annotations\n\n"
            + ("from collections.abc import Iterator\n\n" if streams else "")
            + "import grpc\n"
            + "from lambda_fn import LambdaServer\n\n"
            + self._imports()
            + f"\n\n{classes}\n\n"
            + f"server = LambdaServer()\n{adds}"
            + "handler = server.handler  # what Lambda calls\n\n"
            + 'if __name__ == "__main__":\n'
            + '    server.serve("0.0.0.0:50051")  # the same service as a plain gRPC server\n'
        )

    def _imports(self) -> str:
        lines = [self._import(module, self._aliases[file]) for file, module in self._modules.items()]
        own = self._modules[self._interface.file]
        return "".join(sorted((*lines, self._import([*own[:-1], f"{own[-1]}_grpc"], self._grpc_module()))))

    def _grpc_module(self) -> str:
        return f"{self._aliases[self._interface.file]}_grpc"

    @staticmethod
    def _import(module: list[str], alias: str) -> str:
        named = module[-1] if module[-1] == alias else f"{module[-1]} as {alias}"
        return f"import {named}\n" if len(module) == 1 else f"from {'.'.join(module[:-1])} import {named}\n"

    def _servicer(self, service: DeclaredService) -> str:
        head = f"class {_class_of(service)}({self._grpc_module()}.{service.name}Servicer):\n"
        if not service.methods:
            return f"{head}    pass\n"
        return head + "\n".join(self._method(method) for method in service.methods)

    def _method(self, method: Method) -> str:
        request, reply = self._class_of(method.request), self._class_of(method.reply)
        taken = f"request_iterator: Iterator[{request}]" if method.streams_requests else f"request: {request}"
        given = f"Iterator[{reply}]" if method.streams_replies else reply
        head = f"    def {method.name}(\n        self, {taken}, context: grpc.ServicerContext\n    ) -> {given}:\n"
        return head + "".join(f"        {line}\n" for line in self._body(method))

    def _body(self, method: Method) -> list[str]:
        reply = f'{self._class_of(method.reply)}(message=f"{_HELLO}")' if self._greets else self._example(method.reply)
        hint = [] if self._greets else [f"# Write here what {method.name} does."]
        match method.streams_requests, method.streams_replies:
            case False, False:
                return [*hint, f"return {reply}"]
            case False, True:
                return [*hint, f"yield {reply}"]
            case True, False:
                return [*hint, "for _ in request_iterator:", "    pass", f"return {reply}"]
            case _:
                return [*hint, "for _ in request_iterator:", f"    yield {reply}"]

    # -- test_app.py --

    def tests(self) -> str:
        tests = [self._test(service, method) for service in self._interface.services for method in service.methods]
        return (
            '"""Calls the methods through Lambda\'s events, with grpcio\'s client."""\n\n'
            "from __future__ import annotations\n\n"
            "from lambda_fn.testing.pytest import LambdaChannel\n\n"
            f"import {self.module}\n{self._imports()}\n\n" + "\n\n".join(tests)
        )

    def _test(self, service: DeclaredService, method: Method) -> str:
        filled = f'{self._class_of(method.request)}(name="world")' if self._greets else self._example(method.request)
        request = f"iter([{filled}])" if method.streams_requests else filled
        head = (
            f"def test_{service.name}_{method.name}(lambda_channel: LambdaChannel) -> None:\n"
            f"    stub = {self._grpc_module()}.{service.name}Stub(lambda_channel({self.module}.server))\n"
        )
        call = f"stub.{method.name}({request}, timeout=10)"
        expected = self._example(method.reply)
        if self._greets:
            return f'{head}    reply = {call}\n\n    assert reply.message == "Hello, world!"\n'
        if method.streams_replies:
            return f"{head}    replies = list({call})\n\n    assert replies == [{expected}]\n"
        return f"{head}    reply = {call}\n\n    assert reply == {expected}\n"

    # -- messages --

    def _class_of(self, name: str) -> str:
        message = self._interface.types[name]
        return _attribute(self._aliases[message.file], message.path)

    def _example(self, name: str, depth: int = 0) -> str:
        """Return an expression for a message that can be sent: its required fields have values."""
        message = self._interface.types[name]
        if isinstance(message.descriptor, EnumDescriptorProto):
            return str(message.descriptor.value[0].number)
        fields = required_fields(message) if depth <= 10 else []
        values = [(field.name, self._value(field, depth)) for field in fields]
        plain = [f"{field}={value}" for field, value in values if not keyword.iskeyword(field)]
        odd = ", ".join(f'"{field}": {value}' for field, value in values if keyword.iskeyword(field))
        return f"{self._class_of(name)}({', '.join((*plain, *((f'**{{{odd}}}',) if odd else ())))})"

    def _value(self, field: FieldDescriptorProto, depth: int) -> str:
        if field.type in (_Field.TYPE_MESSAGE, _Field.TYPE_GROUP, _Field.TYPE_ENUM):
            return self._example(field.type_name.removeprefix("."), depth + 1)
        if field.type in _TEXTS:
            return '""'
        if field.type in _BYTES:
            return 'b""'
        if field.type == _Field.TYPE_BOOL:
            return "False"
        return "0.0" if field.type in _FRACTIONS else "0"


def _class_of(service: DeclaredService) -> str:
    return f"{service.name}Service" if service.name in _TAKEN else service.name


def _attribute(module: str, path: tuple[str, ...]) -> str:
    expression = module
    for name in path:
        expression = f'getattr({expression}, "{name}")' if keyword.iskeyword(name) else f"{expression}.{name}"
    return expression


_INCLUDE = (
    ' -I "$(python -c "import google.api.annotations_pb2 as found; from pathlib import Path;'
    ' print(Path(found.__file__).parents[2])")"'
)

_TEMPLATES: Mapping[str, Template] = {
    "generate.sh": Template("""\
#!/bin/sh
# Makes the generated code again, after a change of a .proto file.
set -e
cd "$$(dirname "$$0")"
python -m grpc_tools.protoc -I .$include --python_out=. --pyi_out=. --grpc_python_out=. $files
"""),
    "requirements.txt": Template("""\
# What the function needs on Lambda.
grpc-lambda-fn
grpcio>=$grpcio
protobuf>=$protobuf
$googleapis"""),
    "requirements-dev.txt": Template("""\
# What its author needs as well.
-r requirements.txt
grpc-lambda-bridge
grpcio-tools>=$grpcio
pytest
"""),
    "README.md": Template("""\
# $name

$services on AWS Lambda. `$proto` is the interface, `$module.py` has the methods.

```sh
python -m pip install -r requirements-dev.txt
python -m pytest                                 # calls the methods in this process
grpc-lambda-bridge serve                         # runs the function, for gRPC clients of localhost:50051
grpc-lambda-bridge call $call '$json'
sh generate.sh                                   # after a change of the .proto
sam build && sam deploy --guided                 # then write the function's ARN into bridge.yaml
```

`call` needs a second terminal. Until grpc-lambda-bridge and grpc-lambda-fn are on an index, run `make wheels` in a
clone of the bridge, and `export PIP_FIND_LINKS=CLONE/dist` before `pip install` and `sam build`.
"""),
    ".gitignore": Template("""\
.aws-sam/
.pytest_cache/
.venv/
__pycache__/
"""),
}
