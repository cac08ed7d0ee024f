"""Which permissions a configuration needs: the statements of one IAM policy for each identity that the bridge uses.

Knows the configuration and AWS's names. Neither asks AWS whether the permissions exist, nor writes policies as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from bridge.aws.arn import FunctionName, partition_of
from bridge.aws.hosts import ALL_REGIONS, permission_for
from bridge.config.iam import IamAuth
from bridge.config.schema import Config, MatchKind, Role, Service, TargetShare
from bridge.config.target import HttpTargetSpec, LambdaTargetSpec
from bridge.rpc.url import Url

THIS_ACCOUNT = "<account>"
THIS_REGION = "<region>"
THIS_PARTITION = "<partition>"
"""What stands in an ARN for a part that the configuration does not say. No ARN has such characters."""

UNNAMED_FUNCTION = "*"
UNNAMED_ENDPOINT = "*/endpoint/*"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy, which allows one action."""

    sid: str
    action: str
    resources: tuple[str, ...]
    condition: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Return the statement as policies have it."""
        found: dict[str, object] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": self.action,
            "Resource": list(self.resources),
        }
        return {**found, "Condition": self.condition} if self.condition else found


@dataclass(frozen=True, slots=True)
class AccountPlace:
    """What the configuration does not say about the AWS account that it is for."""

    region: str = THIS_REGION
    account: str = THIS_ACCOUNT
    owners: Mapping[str, FunctionName] = field(default_factory=dict)
    """The function behind a URL, by the URL's host: its name does not tell."""

    def partition(self, region: str) -> str:
        return THIS_PARTITION if region in (THIS_REGION, ALL_REGIONS) else partition_of(region).name

    def arn(self, service: str, resource: str, *, region: str | None = None, account: str | None = None) -> str:
        where = region or self.region
        return f"arn:{self.partition(where)}:{service}:{where}:{account or self.account}:{resource}"


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity that AWS sees: the bridge itself (`roles` is empty), or a role that the bridge assumes."""

    statements: tuple[Statement, ...]
    roles: tuple[Role, ...] = ()
    """The ways in which the configuration names one role; they differ in external id and session name."""

    @property
    def role_arn(self) -> str | None:
        """The role's ARN; None for the bridge itself."""
        return self.roles[0].arn if self.roles else None

    @property
    def external_ids(self) -> tuple[str, ...]:
        """The external ids that the role may insist on. Empty if a target assumes it without one."""
        ids = [role.external_id for role in self.roles]
        return tuple(sorted({one for one in ids if one is not None})) if None not in ids else ()


def identities(config: Config, place: AccountPlace) -> tuple[Identity, ...]:
    """Return each identity with the statements of its policy. The bridge's own is the first."""
    own: list[Statement] = []
    assumed: dict[str, list[Statement]] = {}
    roles: dict[str, dict[Role, None]] = {}
    for service in config.services.values():
        for leg in service.legs:
            needed = statements_for(service, leg, config, place)
            role = role_of(leg, config)
            if not needed:
                continue
            if role is None:
                own += needed
            else:
                assumed.setdefault(role.arn, []).extend(needed)
                roles.setdefault(role.arn, {})[role] = None
    own += [_assume(arn) for arn in assumed]
    return (
        Identity(_merged(own)),
        *(Identity(_merged(found), tuple(roles[arn])) for arn, found in assumed.items()),
    )


def role_of(leg: TargetShare, config: Config) -> Role | None:
    """Return the role under which this target is called, or None for the bridge's own identity."""
    return leg.role_arn or config.aws.role_arn


def statements_for(service: Service, leg: TargetShare, config: Config, place: AccountPlace) -> list[Statement]:
    """Return what calls of this entry to this target need. Empty: AWS asks no permission for them."""
    match leg.target:
        case LambdaTargetSpec(function) if leg.quirks is None:
            region = function.region or config.aws.region or place.region
            return [Statement("InvokeFunctions", "lambda:InvokeFunction", (_function_arn(function, region, place),))]
        case HttpTargetSpec(url) if leg.auth is not None:
            action = permission_for(url.origin.host, leg.auth.service)
            build = _SIGNED.get(action)
            return [] if build is None else build(_SignedUrl(url, leg.auth, service), place)
        case _:
            return []


def unnamed(config: Config) -> tuple[str, ...]:
    """Return the signed targets whose action the configuration does not tell, as messages name them."""
    return tuple(
        f"services.{service.key}: requests to {leg.target} are signed for {leg.auth.service}"
        for service in config.services.values()
        for leg in service.legs
        if isinstance(leg.target, HttpTargetSpec)
        and leg.auth is not None
        and permission_for(leg.target.host, leg.auth.service) not in _SIGNED
    )


def missing(service: Service, leg: TargetShare, config: Config, place: AccountPlace) -> tuple[Statement, ...]:
    """Return what the identity that calls this target lacks if AWS refuses its calls."""
    return _merged(statements_for(service, leg, config, place))


def _assume(role_arn: str) -> Statement:
    return Statement("AssumeRoles", "sts:AssumeRole", (role_arn,))


def _function_arn(function: FunctionName, region: str, place: AccountPlace) -> str:
    """Invoke and InvokeWithResponseStream are one action. AWS compares the ARN with the qualifier that a call names."""
    resource = f"function:{function}"
    account = function.account or place.account
    if function.partition is not None:
        return f"arn:{function.partition}:lambda:{region}:{account}:{resource}"
    return place.arn("lambda", resource, region=region, account=account)


@dataclass(frozen=True, slots=True)
class _SignedUrl:
    url: Url
    auth: IamAuth
    service: Service


def _function_url(signed: _SignedUrl, place: AccountPlace) -> list[Statement]:
    """URLs need two actions since October 2025.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html
    """
    owner = place.owners.get(signed.url.origin.host.lower())
    region = signed.auth.region
    if owner is None:
        arn = place.arn("lambda", f"function:{UNNAMED_FUNCTION}", region=region)
    else:
        arn = _function_arn(owner, owner.region or region, place)
    return [
        Statement(
            "InvokeFunctionUrls",
            "lambda:InvokeFunctionUrl",
            (arn,),
            {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}},
        ),
        Statement(
            "InvokeFunctionsByUrl",
            "lambda:InvokeFunction",
            (arn,),
            {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
        ),
    ]


def _web_function(signed: _SignedUrl, place: AccountPlace) -> list[Statement]:
    """Return the one statement. The ARN's form is that of AWS's policy AWSLambdaInvokeWebFunctionEndpointAccess."""
    owner = place.owners.get(signed.url.origin.host.lower())
    name = UNNAMED_ENDPOINT if owner is None else f"{owner.name}/endpoint/*"
    account = None if owner is None else owner.account
    arn = place.arn("lambda", f"web-function/{name}", region=signed.auth.region, account=account)
    return [Statement("InvokeWebFunctions", "lambda:InvokeWebFunctionEndpoint", (arn,))]


def _api_gateway(signed: _SignedUrl, place: AccountPlace) -> list[Statement]:
    """`API/STAGE/METHOD/PATH`. An own domain does not tell API, stage and path, since its mappings decide them.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-control-access-using-iam-policies-to-invoke-api.html
    """
    host = signed.url.origin.host.lower()
    stage, _, base = signed.url.prefix.lstrip("/").partition("/")
    methods = _methods(signed.service)
    if ".execute-api." not in host or host.startswith("vpce-"):
        resource = f"*/*/POST/*{methods}"
    else:
        # A private API's host may also name the VPC endpoint: API-VPCE.
        api = host.split(".")[0].split("-vpce-")[0]
        path = f"{base}/{methods}" if base else methods
        resource = f"{api}/{stage or '$default'}/POST/{path}"
    return [
        Statement("InvokeApis", "execute-api:Invoke", (place.arn("execute-api", resource, region=signed.auth.region),))
    ]


def _methods(service: Service) -> str:
    match service.match.kind:
        case MatchKind.METHOD:
            return f"{service.match.service}/{service.match.method}"
        case MatchKind.SERVICE:
            return f"{service.match.service}/*"
        case MatchKind.PREFIX:
            return f"{service.match.service}.*"
        case MatchKind.ANY:
            return "*"


_SIGNED: Mapping[str, Callable[[_SignedUrl, AccountPlace], list[Statement]]] = {
    "lambda:InvokeFunctionUrl": _function_url,
    "lambda:InvokeWebFunctionEndpoint": _web_function,
    "execute-api:Invoke": _api_gateway,
}
"""By the action that a signed request needs."""


def _merged(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """One statement for each purpose, with the resources of all."""
    found: dict[str, list[Statement]] = {}
    for statement in statements:
        found.setdefault(statement.sid, []).append(statement)
    return tuple(
        replace(same[0], resources=tuple(sorted(set(chain.from_iterable(one.resources for one in same)))))
        for same in found.values()
    )
