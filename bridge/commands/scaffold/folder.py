"""What the folders of all languages have alike: the words in their texts, `bridge.yaml` and the SAM template."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template

from bridge.commands.scaffold.interface import DeclaredService, Interface, Method, read_third_party

PROTO = "proto"
"""The folder of the .proto files, in every language but Python, whose generated code wants them at the top."""
THIRD_PARTY = "third_party"
"""The folder of the .proto files that others import and that are not the author's."""


def names_in(text: str) -> frozenset[str]:
    """Return the names in a text, which stand between spaces."""
    return frozenset(text.split())


def words_of(name: str, interface: Interface, *, greets: bool) -> dict[str, str]:
    """Return what the texts say about a function and its interface.

    `greets`: the interface is the example that `new` writes by itself.
    """
    service, method = first_method(interface)
    return {
        "name": name,
        "proto": interface.file,
        "routes": "".join(f"  {service.full_name}: local:{name}\n" for service in interface.services),
        "services": ", ".join(service.full_name for service in interface.services),
        "call": f"{service.full_name}/{method.name if method else 'METHOD'}",
        "json": '{"name": "world"}' if greets else "{}",
        "arn": f"arn:aws:lambda:REGION:ACCOUNT:function:{name}",
    }


def first_method(interface: Interface) -> tuple[DeclaredService, Method | None]:
    """Return the first method and its service, or a service if none has a method."""
    service = next((each for each in interface.services if each.methods), interface.services[0])
    return service, service.methods[0] if service.methods else None


def proto_texts(interface: Interface) -> dict[str, str]:
    """Return the .proto files in PROTO, and those that they import in THIRD_PARTY."""
    own = {f"{PROTO}/{each}": (interface.root / each).read_text() for each in interface.own_files}
    others = {f"{THIRD_PARTY}/{name}": text for name, text in read_third_party(interface).items()}
    return own | others


def template_yaml(words: Mapping[str, str], *, handler: str, runtime: str, build_method: str | None = None) -> str:
    """Return the SAM template. `build_method`: how `sam build` builds it, if the runtime does not tell."""
    metadata = f"    Metadata:\n      BuildMethod: {build_method}\n" if build_method else ""
    return _TEMPLATE_YAML.substitute(words, handler=handler, runtime=runtime, metadata=metadata)


def bridge_yaml(words: Mapping[str, str], function: str, *, built: str | None = None, defaults: str = "") -> str:
    """Return `bridge.yaml`. `function`: how the function is started. `built`: the program that its author builds. git
    ignores it, but it is what must be followed and packed. `defaults`: the section of that name, with a comment.
    """
    section = f"\n{defaults}" if defaults else ""
    if built is None:
        keys = f" {{{function}, timeout: 10s, memory: 512MiB, reload: true}}\n"
    else:
        follow, pack = (f"{key}: {{include: [{built}]}}" for key in ("reload", "package"))
        keys = "".join(f"\n    {each}" for each in (function, "timeout: 10s", "memory: 512MiB", follow, pack)) + "\n"
    return _BRIDGE_YAML.substitute(words, keys=keys, defaults=section)


STREAMED_DEFAULTS = f"""\
# The function streams its replies, and does not describe its services itself.
defaults:
  invoke_mode: response_stream
  descriptors: {PROTO}
"""
"""The section `defaults` for a function that always streams."""


_BRIDGE_YAML = Template("""\
# `grpc-lambda-bridge serve` and its other commands read this file.

# Which function answers for which gRPC service. Once it is on AWS, write its ARN in place of local:$name:
#   $arn
services:
$routes$defaults
# The functions that run on this machine. After a change of its files, a function starts anew.
functions:
  $name:$keys""")

_TEMPLATE_YAML = Template("""\
# The function on AWS, for `sam build && sam deploy --guided`. Put the output FunctionArn into bridge.yaml, and attach
# BridgePolicyArn to the role of the bridge.
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Description: $services on Lambda

Resources:
  Function:
    Type: AWS::Serverless::Function
$metadata    Properties:
      FunctionName: $name
      CodeUri: .
      Handler: $handler
      Runtime: $runtime
      Architectures: [x86_64]
      MemorySize: 512
      Timeout: 10

  BridgePolicy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Description: Lets grpc-lambda-bridge call the function
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Action: lambda:InvokeFunction
            Resource:
              - !GetAtt Function.Arn
              - !Sub $${Function.Arn}:*

Outputs:
  FunctionArn:
    Description: The target in bridge.yaml
    Value: !GetAtt Function.Arn
  BridgePolicyArn:
    Description: To attach to the bridge's role
    Value: !Ref BridgePolicy
""")
