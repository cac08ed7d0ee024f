output "function_arns" {
  description = "Targets for the bridge's configuration: the ARN of each alias, by the name of the function."
  value       = { for name, alias in aws_lambda_alias.live : name => alias.arn }
}

output "urls" {
  description = "Function URLs, by the name of the function."
  value       = { for name, url in aws_lambda_function_url.function : name => url.function_url }
}

output "bridge_policy_arn" {
  description = "To attach to the bridge's role."
  value       = aws_iam_policy.bridge.arn
}

output "bridge_role_arn" {
  description = "The bridge's role, or null."
  value       = one(aws_iam_role.bridge[*].arn)
}
