# What the bridge may do: the statements that `grpc-lambda-bridge iam` prints for these targets.

module "bridge_policy" {
  source = "./bridge-policy"

  invoked = var.bridge_calls == "invoke" ? [for name in keys(var.functions) : aws_lambda_alias.live[name].arn] : []
  by_url = var.bridge_calls == "url" ? [
    for name, url in local.urls : aws_lambda_alias.live[name].arn if url.auth == "AWS_IAM"
  ] : []
  runs_on = var.bridge_runs_on
}

resource "aws_iam_policy" "bridge" {
  name        = "${var.prefix}-bridge"
  description = "Lets grpc-lambda-bridge call the functions"
  policy      = module.bridge_policy.policy
  tags        = var.tags
}

resource "aws_iam_role" "bridge" {
  count = var.bridge_runs_on == null ? 0 : 1

  name               = "${var.prefix}-bridge"
  assume_role_policy = module.bridge_policy.trust_policy
  tags               = var.tags
}

resource "aws_iam_role_policy_attachment" "bridge" {
  count = var.bridge_runs_on == null ? 0 : 1

  role       = aws_iam_role.bridge[0].name
  policy_arn = aws_iam_policy.bridge.arn
}

# Full duplex: functions open connections to the bridge.
resource "aws_vpc_security_group_ingress_rule" "bridge_from_functions" {
  count = try(var.vpc.bridge_security_group_id, null) == null ? 0 : 1

  description                  = "Functions connect to grpc-lambda-bridge for full duplex"
  security_group_id            = var.vpc.bridge_security_group_id
  referenced_security_group_id = var.vpc.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = var.vpc.duplex_from_port
  to_port                      = var.vpc.duplex_to_port
  tags                         = var.tags
}
