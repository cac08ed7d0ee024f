# One function for each entry of var.functions, with its alias, URL, role and log group.

data "aws_partition" "current" {}

locals {
  names = { for name in keys(var.functions) : name => "${var.prefix}-${name}" }
  urls  = { for name, one in var.functions : name => one.url if one.url != null }

  # Functions in other languages have no such program.
  has_wrapper = var.exec_wrapper != null && startswith(var.runtime, "python")

  # Lambda takes either a VPC or a capacity provider, which has its own.
  in_vpc = { for name, one in var.functions : name => one if var.vpc != null && one.capacity_provider == null }
}

resource "aws_cloudwatch_log_group" "function" {
  for_each = var.functions

  name              = "/aws/lambda/${local.names[each.key]}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}

resource "aws_iam_role" "function" {
  for_each = var.functions

  name = "${local.names[each.key]}-function"
  tags = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "logs" {
  for_each = var.functions

  name = "logs"
  role = aws_iam_role.function[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.function[each.key].arn}:*"
    }]
  })
}

# Lambda makes the network interfaces of a function in a VPC as the function's role.
resource "aws_iam_role_policy_attachment" "network" {
  for_each = local.in_vpc

  role       = aws_iam_role.function[each.key].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSLambdaENIManagementAccess"
}

resource "aws_lambda_function" "function" {
  for_each = var.functions

  function_name                  = local.names[each.key]
  role                           = aws_iam_role.function[each.key].arn
  filename                       = each.value.zip
  source_code_hash               = each.value.zip == null ? null : filebase64sha256(each.value.zip)
  s3_bucket                      = try(each.value.s3.bucket, null)
  s3_key                         = try(each.value.s3.key, null)
  s3_object_version              = try(each.value.s3.object_version, null)
  handler                        = each.value.handler
  runtime                        = var.runtime
  architectures                  = [var.architecture]
  memory_size                    = each.value.memory_size
  timeout                        = each.value.timeout
  reserved_concurrent_executions = each.value.reserved_concurrency
  publish                        = true
  tags                           = var.tags

  environment {
    variables = merge(
      local.has_wrapper ? { AWS_LAMBDA_EXEC_WRAPPER = var.exec_wrapper } : {},
      each.value.environment,
    )
  }

  dynamic "vpc_config" {
    for_each = contains(keys(local.in_vpc), each.key) ? [var.vpc] : []

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = [vpc_config.value.security_group_id]
    }
  }

  dynamic "tenancy_config" {
    for_each = each.value.tenants ? [true] : []

    content {
      tenant_isolation_mode = "PER_TENANT"
    }
  }

  dynamic "capacity_provider_config" {
    for_each = each.value.capacity_provider == null ? [] : [each.value.capacity_provider]

    content {
      lambda_managed_instances_capacity_provider_config {
        capacity_provider_arn                     = capacity_provider_config.value.arn
        per_execution_environment_max_concurrency = capacity_provider_config.value.max_concurrency
      }
    }
  }

  depends_on = [
    aws_cloudwatch_log_group.function,
    aws_iam_role_policy.logs,
    aws_iam_role_policy_attachment.network,
  ]
}

resource "aws_lambda_alias" "live" {
  for_each = var.functions

  name             = var.alias
  function_name    = aws_lambda_function.function[each.key].function_name
  function_version = aws_lambda_function.function[each.key].version
}

resource "aws_lambda_function_url" "function" {
  for_each = local.urls

  function_name      = aws_lambda_function.function[each.key].function_name
  qualifier          = aws_lambda_alias.live[each.key].name
  authorization_type = each.value.auth
  invoke_mode        = each.value.invoke_mode
}
