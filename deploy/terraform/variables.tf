variable "prefix" {
  description = "Begins the names of everything that the module makes."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]{0,19}$", var.prefix))
    error_message = "The prefix needs 1 to 20 letters, digits and hyphens."
  }
}

variable "functions" {
  description = <<-EOT
    The functions, by the last part of their names. Each needs `zip` (a path) or `s3` (an object), which
    `grpc-lambda-bridge package` makes.
      url               makes a function URL. It excludes tenants.
      tenants           isolates tenants. Lambda takes this only when it creates the function.
      duration_alarm    is false where invocations last long on purpose, as in full duplex.
      capacity_provider runs the function on Lambda Managed Instances, in their VPC and not in that of `vpc`.
  EOT
  type = map(object({
    zip = optional(string)
    s3 = optional(object({
      bucket         = string
      key            = string
      object_version = optional(string)
    }))
    handler              = optional(string, "app.handler")
    memory_size          = optional(number, 512)
    timeout              = optional(number, 30)
    environment          = optional(map(string), {})
    reserved_concurrency = optional(number, -1)
    tenants              = optional(bool, false)
    duration_alarm       = optional(bool, true)
    url = optional(object({
      auth        = optional(string, "AWS_IAM")
      invoke_mode = optional(string, "RESPONSE_STREAM")
    }))
    capacity_provider = optional(object({
      arn             = string
      max_concurrency = optional(number)
    }))
  }))

  validation {
    condition     = length(var.functions) > 0
    error_message = "The module needs at least one function."
  }

  validation {
    condition     = alltrue([for name in keys(var.functions) : can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,29}$", name))])
    error_message = "The name of a function needs 1 to 30 letters, digits, hyphens and underscores."
  }

  validation {
    condition     = alltrue([for one in values(var.functions) : (one.zip == null) != (one.s3 == null)])
    error_message = "Each function needs either zip or s3."
  }

  validation {
    condition     = alltrue([for one in values(var.functions) : one.timeout >= 1 && one.timeout <= 1800])
    error_message = "Lambda takes a timeout of 1 to 1800 seconds."
  }

  validation {
    condition     = alltrue([for one in values(var.functions) : one.memory_size >= 128 && one.memory_size <= 32768])
    error_message = "Lambda takes a memory_size of 128 to 32768 MB."
  }

  validation {
    condition = alltrue([
      for one in values(var.functions) : one.url == null ? true : contains(["AWS_IAM", "NONE"], one.url.auth)
    ])
    error_message = "url.auth is AWS_IAM, or NONE, which opens the URL to the internet."
  }

  validation {
    condition = alltrue([
      for one in values(var.functions) :
      one.url == null ? true : contains(["BUFFERED", "RESPONSE_STREAM"], one.url.invoke_mode)
    ])
    error_message = "url.invoke_mode is BUFFERED or RESPONSE_STREAM."
  }

  validation {
    condition     = alltrue([for one in values(var.functions) : !(one.tenants && one.url != null)])
    error_message = "A function that isolates tenants cannot have a URL."
  }
}

variable "runtime" {
  description = "Lambda runtime of the functions."
  type        = string
  default     = "python3.13"
}

variable "architecture" {
  description = "The architecture that the zips were made for: arm64 or x86_64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Lambda has arm64 and x86_64."
  }
}

variable "exec_wrapper" {
  description = "Runs lambda_fn.runtime, which streams replies, in place of a managed Python runtime. Null: not so."
  type        = string
  default     = "/var/task/lambda_fn_wrapper"
}

variable "alias" {
  description = "Alias of each function, which follows the version that was applied last."
  type        = string
  default     = "live"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]*[A-Za-z_-][A-Za-z0-9_-]*$", var.alias))
    error_message = "An alias has letters, digits, hyphens and underscores, and not digits alone."
  }
}

variable "vpc" {
  description = <<-EOT
    Subnets and security group of the functions, which full duplex needs. With the bridge's security group, a rule
    lets the functions connect to the ports of its duplex listener.
  EOT
  type = object({
    subnet_ids               = list(string)
    security_group_id        = string
    bridge_security_group_id = optional(string)
    duplex_from_port         = optional(number, 50052)
    duplex_to_port           = optional(number, 50055)
  })
  default = null

  validation {
    condition     = var.vpc == null ? true : length(var.vpc.subnet_ids) > 0
    error_message = "vpc.subnet_ids needs at least one subnet. Leave vpc out for functions outside of a VPC."
  }

  validation {
    condition     = var.vpc == null ? true : var.vpc.duplex_from_port <= var.vpc.duplex_to_port
    error_message = "vpc.duplex_from_port is above vpc.duplex_to_port."
  }
}

variable "bridge_calls" {
  description = "Whether the bridge's targets are the ARNs of the functions (invoke) or their URLs with AWS_IAM (url)."
  type        = string
  default     = "invoke"

  validation {
    condition     = contains(["invoke", "url"], var.bridge_calls)
    error_message = "bridge_calls is invoke or url."
  }

  validation {
    condition = var.bridge_calls != "url" || anytrue([
      for one in values(var.functions) : try(one.url.auth, "") == "AWS_IAM"
    ])
    error_message = "bridge_calls is url, and no function has a URL with AWS_IAM."
  }
}

variable "bridge_runs_on" {
  description = "Where a role for the bridge shall serve: ec2, ecs or pod-identity. Null makes a policy only."
  type        = string
  default     = null

  validation {
    condition     = var.bridge_runs_on == null ? true : contains(["ec2", "ecs", "pod-identity"], var.bridge_runs_on)
    error_message = "bridge_runs_on is ec2, ecs or pod-identity."
  }
}

variable "log_retention_days" {
  description = "Days that CloudWatch keeps the logs."
  type        = number
  default     = 30
}

variable "alarm_topic_arns" {
  description = "SNS topics that alarms notify."
  type        = list(string)
  default     = []
}

variable "alarm_thresholds" {
  description = <<-EOT
    When alarms begin: failed and throttled invocations in a minute, and the part of its timeout that an invocation
    takes. The bridge sends throttled calls again.
  EOT
  type = object({
    errors_per_minute    = optional(number, 1)
    throttles_per_minute = optional(number, 10)
    timeout_percent      = optional(number, 90)
  })
  default = {}
}

variable "tags" {
  description = "Tags of everything that takes tags."
  type        = map(string)
  default     = {}
}
