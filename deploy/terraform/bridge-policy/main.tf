# The policies of the bridge as JSON, by the same rules as `grpc-lambda-bridge iam`. It needs no provider.

terraform {
  required_version = ">= 1.9"
}

variable "invoked" {
  description = "ARNs, with their aliases, of functions that the bridge invokes."
  type        = list(string)
  default     = []
}

variable "by_url" {
  description = "ARNs, with their aliases, of functions that the bridge calls at their URLs with AWS_IAM."
  type        = list(string)
  default     = []
}

variable "runs_on" {
  description = "Where the bridge runs: ec2, ecs or pod-identity. Null gives no trust policy."
  type        = string
  default     = null
}

locals {
  invoke = length(var.invoked) == 0 ? [] : [{
    Sid      = "InvokeFunctions"
    Effect   = "Allow"
    Action   = "lambda:InvokeFunction"
    Resource = sort(var.invoked)
  }]

  # URLs need two actions since October 2025: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html
  url = length(var.by_url) == 0 ? [] : [
    {
      Sid       = "InvokeFunctionUrls"
      Effect    = "Allow"
      Action    = "lambda:InvokeFunctionUrl"
      Resource  = sort(var.by_url)
      Condition = { StringEquals = { "lambda:FunctionUrlAuthType" = "AWS_IAM" } }
    },
    {
      Sid       = "InvokeFunctionsByUrl"
      Effect    = "Allow"
      Action    = "lambda:InvokeFunction"
      Resource  = sort(var.by_url)
      Condition = { Bool = { "lambda:InvokedViaFunctionUrl" = "true" } }
    },
  ]

  trusted = {
    ec2          = { service = "ec2.amazonaws.com", actions = ["sts:AssumeRole"] }
    ecs          = { service = "ecs-tasks.amazonaws.com", actions = ["sts:AssumeRole"] }
    pod-identity = { service = "pods.eks.amazonaws.com", actions = ["sts:AssumeRole", "sts:TagSession"] }
  }
}

output "policy" {
  description = "The permissions policy."
  value       = jsonencode({ Version = "2012-10-17", Statement = concat(local.invoke, local.url) })
}

output "trust_policy" {
  description = "Who may assume the bridge's role, or null."
  value = var.runs_on == null ? null : jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = local.trusted[var.runs_on].service }
      Action    = local.trusted[var.runs_on].actions
    }]
  })
}
