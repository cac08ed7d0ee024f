"""`iam`: prints the policies that a configuration needs and nothing more, as JSON or as Terraform."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from bridge.aws.arn import FunctionName
from bridge.commands.failure import CommandFailed
from bridge.commands.hcl import Expression, block
from bridge.commands.loading import load_config
from bridge.config.permissions import (
    THIS_ACCOUNT,
    THIS_PARTITION,
    THIS_REGION,
    UNNAMED_ENDPOINT,
    UNNAMED_FUNCTION,
    AccountPlace,
    Identity,
    identities,
    unnamed,
)

POLICY_LANGUAGE = "2012-10-17"
"""Of the policy language (IAM User Guide, "IAM JSON policy elements: Version")."""

INLINE_POLICY_SIZE = 10_240
"""Characters without white space that the inline policies of a role may have together (IAM quotas)."""

Policy: TypeAlias = dict[str, object]

_IN_JSON = {THIS_ACCOUNT: "*", THIS_REGION: "*", THIS_PARTITION: "aws"}
_IN_TERRAFORM = {
    THIS_ACCOUNT: "${data.aws_caller_identity.current.account_id}",
    THIS_REGION: "${data.aws_region.current.region}",
    THIS_PARTITION: "${data.aws_partition.current.partition}",
}
_SOURCES = {
    THIS_ACCOUNT: "aws_caller_identity",
    THIS_REGION: "aws_region",
    THIS_PARTITION: "aws_partition",
}
"""The data source of the Terraform expression for each part."""

_ROLE_OF_BRIDGE = "${aws_iam_role.bridge.arn}"


def iam(chosen: argparse.Namespace) -> int:
    """Print the policies. Returns 0, or 1 if a target's permission is unknown. Raises ConfigErrors, CommandFailed."""
    path, config = load_config(chosen)
    place = AccountPlace(
        region=chosen.region or region_of_environment(),
        account=chosen.account or THIS_ACCOUNT,
        owners=dict(map(_owner, chosen.function)),
    )
    found = identities(config, place)
    bridge_trust = _trust_of_bridge(chosen)
    if chosen.output == "json":
        print(_json(found, bridge_trust, chosen))
    else:
        print(_terraform(found, bridge_trust, chosen), end="")
    missing = unnamed(config)
    for note in (*_notes(found, chosen), *missing):
        print(f"warning: {note}", file=sys.stderr)
    if missing:
        print(f"{path}: add the permissions of these requests yourself", file=sys.stderr)
    return 1 if missing else 0


def region_of_environment() -> str:
    """Return the region that the environment names. Profiles are not read: where the bridge runs they may differ."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or THIS_REGION


def _owner(text: str) -> tuple[str, FunctionName]:
    """Read `HOST=ARN`. Raises CommandFailed."""
    host, _, arn = text.partition("=")
    try:
        return host.lower(), FunctionName.from_arn(arn)
    except ValueError as error:
        raise CommandFailed(f"--function {text}: expected HOST=ARN; {error}", exit_code=2) from error


# -- trust -------------------------------------------------------------------------------------------------------------


def _trust_of_bridge(chosen: argparse.Namespace) -> Policy | None:
    """Return who may take on the bridge's role, or None if --runs-on does not say. Raises CommandFailed."""
    match chosen.runs_on:
        case "ec2" | "ecs":
            service = {"ec2": "ec2.amazonaws.com", "ecs": "ecs-tasks.amazonaws.com"}[chosen.runs_on]
            return _trust({"Service": service})
        case "pod-identity":
            # https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html
            account = _service_account(chosen, needed=False)
            condition = {}
            if account is not None:
                condition = {
                    "StringEquals": {
                        "aws:RequestTag/kubernetes-namespace": account[0],
                        "aws:RequestTag/kubernetes-service-account": account[1],
                    }
                }
            return _trust({"Service": "pods.eks.amazonaws.com"}, condition, ("sts:AssumeRole", "sts:TagSession"))
        case "irsa":
            # https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html
            account = _service_account(chosen, needed=True)
            provider = chosen.oidc_provider
            if provider is None or ":oidc-provider/" not in provider:
                raise CommandFailed("--runs-on irsa needs --oidc-provider, the ARN of the cluster's", exit_code=2)
            assert account is not None
            issuer = provider.partition(":oidc-provider/")[2]
            subject = f"system:serviceaccount:{account[0]}:{account[1]}"
            return _trust(
                {"Federated": provider},
                {"StringEquals": {f"{issuer}:sub": subject, f"{issuer}:aud": "sts.amazonaws.com"}},
                ("sts:AssumeRoleWithWebIdentity",),
            )
        case _:
            return None


def _service_account(chosen: argparse.Namespace, *, needed: bool) -> tuple[str, str] | None:
    if chosen.service_account is None:
        if needed:
            raise CommandFailed(f"--runs-on {chosen.runs_on} needs --service-account NAMESPACE:NAME", exit_code=2)
        return None
    namespace, _, name = chosen.service_account.partition(":")
    if not namespace or not name:
        raise CommandFailed("--service-account: expected NAMESPACE:NAME", exit_code=2)
    return namespace, name


def _trust_of_role(identity: Identity, principal: str) -> Policy:
    ids = identity.external_ids
    return _trust({"AWS": principal}, {"StringEquals": {"sts:ExternalId": list(ids)}} if ids else {})


def _trust(
    principal: Mapping[str, str],
    condition: Mapping[str, object] | None = None,
    actions: tuple[str, ...] = ("sts:AssumeRole",),
) -> Policy:
    statement: Policy = {
        "Effect": "Allow",
        "Principal": dict(principal),
        "Action": list(actions) if len(actions) > 1 else actions[0],
    }
    if condition:
        statement["Condition"] = dict(condition)
    return {"Version": POLICY_LANGUAGE, "Statement": [statement]}


def _principal(identity: Identity, chosen: argparse.Namespace) -> str:
    """Return who may assume this role: --principal, else an account, whose own policies then decide."""
    assert identity.role_arn is not None
    if chosen.principal is not None:
        return str(chosen.principal)
    _, partition, _, _, account, _ = identity.role_arn.split(":", 5)
    return f"arn:{partition}:iam::{chosen.account or account}:root"


# -- what is printed ---------------------------------------------------------------------------------------------------


def _policy(identity: Identity) -> Policy:
    return {"Version": POLICY_LANGUAGE, "Statement": [statement.document() for statement in identity.statements]}


def _json(found: tuple[Identity, ...], bridge_trust: Policy | None, chosen: argparse.Namespace) -> str:
    """One object for each identity: `bridge`, and the ARN of each role that it assumes."""
    printed: dict[str, Policy] = {}
    for identity in found:
        trust = bridge_trust
        if identity.roles:
            trust = _trust_of_role(identity, _principal(identity, chosen))
        printed[identity.role_arn or "bridge"] = {"policy": _policy(identity), "trust_policy": trust}
    return filled(json.dumps(printed, indent=2))


def filled(text: str) -> str:
    """Replace the parts of ARNs that nothing says by what stands for all of them in a policy."""
    for part, meant in _IN_JSON.items():
        text = text.replace(part, meant)
    return text


def _terraform(found: tuple[Identity, ...], bridge_trust: Policy | None, chosen: argparse.Namespace) -> str:
    blocks = list(_blocks(found, bridge_trust, chosen))
    text = "\n".join(blocks)
    sources = [block(("data", _SOURCES[part], "current"), {}) for part in _SOURCES if _IN_TERRAFORM[part] in text]
    return "\n".join((*sources, *blocks))


def _blocks(found: tuple[Identity, ...], bridge_trust: Policy | None, chosen: argparse.Namespace) -> Iterator[str]:
    for identity in found:
        arn = identity.role_arn
        label = "bridge" if arn is None else "role_" + re.sub(r"[^A-Za-z0-9_-]+", "_", arn.partition(":iam::")[2])
        if not identity.statements:
            continue
        if arn is None and bridge_trust is None:
            yield block(
                ("resource", "aws_iam_policy", label),
                {"name": "grpc-lambda-bridge", "policy": _encoded(_policy(identity))},
            )
            continue
        if arn is None:
            role: dict[str, object] = {"name": "grpc-lambda-bridge", "assume_role_policy": _encoded(bridge_trust)}
        else:
            *folders, name = arn.split(":role/")[1].split("/")
            principal = _principal(identity, chosen)
            if bridge_trust is not None and chosen.principal is None:
                principal = "<bridge>"
            role = {"name": name, "assume_role_policy": _encoded(_trust_of_role(identity, principal))}
            if folders:
                role["path"] = f"/{'/'.join(folders)}/"
        yield block(("resource", "aws_iam_role", label), role)
        yield block(
            ("resource", "aws_iam_role_policy", label),
            {
                "name": "grpc-lambda-bridge",
                "role": Expression(f"aws_iam_role.{label}.id"),
                "policy": _encoded(_policy(identity)),
            },
        )


def _encoded(document: Policy | None) -> Expression:
    return Expression.call("jsonencode", document, {**_IN_TERRAFORM, "<bridge>": _ROLE_OF_BRIDGE})


def _notes(found: tuple[Identity, ...], chosen: argparse.Namespace) -> Iterator[str]:
    """Yield what makes the policies wider than they need be, and how to narrow them."""
    if not any(identity.statements for identity in found):
        yield "nothing in the configuration needs a permission of AWS"
    resources = [arn for identity in found for statement in identity.statements for arn in statement.resources]
    if chosen.output == "json":
        if any(THIS_ACCOUNT in arn for arn in resources):
            yield "the configuration does not say the account, so ARNs have * there: --account ID narrows them"
        if any(THIS_REGION in arn for arn in resources):
            yield "the configuration does not say the region, so ARNs have * there: --region NAME narrows them"
    if any(arn.endswith((f":function:{UNNAMED_FUNCTION}", f":web-function/{UNNAMED_ENDPOINT}")) for arn in resources):
        yield "a URL does not tell its function, so its ARN has *: --function HOST=ARN narrows it"
    if any(":execute-api:" in arn and arn.split(":")[5].startswith("*/") for arn in resources):
        yield "a host does not tell its API, so the ARN allows all APIs of the account: write the API's id there"
    if any(identity.roles for identity in found) and chosen.principal is None and chosen.output == "json":
        yield "the roles trust a whole account, whose policies then decide: --principal ARN names the bridge's role"
    for identity in found:
        size = len(json.dumps(_policy(identity), separators=(",", ":")))
        if size > INLINE_POLICY_SIZE:
            yield (
                f"the policy of {identity.role_arn or 'the bridge'} has {size} characters, and AWS takes"
                f" {INLINE_POLICY_SIZE}: use more than one role (role_arn of a service)"
            )
