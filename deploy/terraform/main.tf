# The example function with its role and URL:
#
#   make lambda-zip ARCH=arm64 && terraform -chdir=deploy/terraform init && terraform -chdir=deploy/terraform apply

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # From here on a URL with NONE gets both permissions that AWS asks for, without resources of ours.
      version = ">= 6.29"
    }
  }
}

variable "name" {
  description = "Name of the function"
  type        = string
  default     = "greeter"
}

variable "architecture" {
  description = "That of the zip: arm64 or x86_64 (make lambda-zip ARCH=...)"
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Lambda has arm64 and x86_64."
  }
}

variable "url_auth" {
  description = "Who may call the URL: AWS_IAM, or NONE, which opens it to the internet"
  type        = string
  default     = "AWS_IAM"
}

locals {
  zip = "${path.module}/../../dist/greeter.zip"
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_partition" "current" {}

resource "aws_iam_role" "function" {
  name               = "${var.name}-function"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy_attachment" "logs" {
  role       = aws_iam_role.function.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = 30
}

resource "aws_lambda_function" "function" {
  function_name    = var.name
  role             = aws_iam_role.function.arn
  filename         = local.zip
  source_code_hash = filebase64sha256(local.zip)
  handler          = "app.handler"
  runtime          = "python3.13"
  architectures    = [var.architecture]
  memory_size      = 512
  timeout          = 30

  environment {
    variables = {
      # Runs lambda_fn.runtime in place of the managed runtime, which cannot stream replies.
      AWS_LAMBDA_EXEC_WRAPPER = "/var/task/lambda_fn_wrapper"
    }
  }

  depends_on = [aws_cloudwatch_log_group.function, aws_iam_role_policy_attachment.logs]
}

resource "aws_lambda_function_url" "function" {
  function_name      = aws_lambda_function.function.function_name
  authorization_type = var.url_auth
  # Reads streamed replies only: deploy/greeter/app.py says stream_replies=True.
  invoke_mode = "RESPONSE_STREAM"
}

# For the role of the bridge: what it needs and nothing else.
data "aws_iam_policy_document" "bridge" {
  statement {
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.function.arn, "${aws_lambda_function.function.arn}:*"]
  }
}

resource "aws_iam_policy" "bridge" {
  name   = "${var.name}-bridge"
  policy = data.aws_iam_policy_document.bridge.json
}

output "function_arn" {
  description = "The target in the bridge's services"
  value       = aws_lambda_function.function.arn
}

output "url" {
  description = "Where gRPC-Web, Connect and REST clients call"
  value       = aws_lambda_function_url.function.function_url
}

output "bridge_policy_arn" {
  description = "To attach to the bridge's role"
  value       = aws_iam_policy.bridge.arn
}
