# The functions of deploy/sam/template.yaml: `greeter` with a URL, and `echo` for streams in both directions.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.29"
    }
  }
}

variable "vpc" {
  description = "Subnets and security groups, without which there is no full duplex."
  type = object({
    subnet_ids               = list(string)
    security_group_id        = string
    bridge_security_group_id = optional(string)
  })
  default = null
}

module "services" {
  source = "../.."

  prefix         = "grpc"
  bridge_runs_on = "ecs"
  vpc            = var.vpc

  functions = {
    greeter = {
      zip = "${path.module}/../../../../dist/greeter.zip"
      url = { auth = "AWS_IAM", invoke_mode = "RESPONSE_STREAM" }
    }
    echo = {
      zip            = "${path.module}/../../../../dist/echo.zip"
      timeout        = 900
      duration_alarm = false
    }
  }
}

output "function_arns" {
  description = "Targets of helloworld.Greeter and dev.Echo in the bridge's configuration."
  value       = module.services.function_arns
}

output "urls" {
  description = "Where gRPC-Web, Connect and REST clients call."
  value       = module.services.urls
}

output "bridge_role_arn" {
  description = "The role of the bridge's ECS task."
  value       = module.services.bridge_role_arn
}
