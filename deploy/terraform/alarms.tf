# Alarms of each alias. Lambda counts what is called through an alias under Resource = NAME:ALIAS.

locals {
  alarm_dimensions = {
    for name in keys(var.functions) : name => {
      FunctionName = local.names[name]
      Resource     = "${local.names[name]}:${var.alias}"
    }
  }

  # Invocations of a kind are counted, and too many in a minute begin the alarm.
  counted = merge([
    for name in keys(var.functions) : {
      "${name}-errors" = {
        function    = name
        metric      = "Errors"
        threshold   = var.alarm_thresholds.errors_per_minute
        description = "Invocations of ${local.names[name]}:${var.alias} fail"
      }
      "${name}-throttles" = {
        function    = name
        metric      = "Throttles"
        threshold   = var.alarm_thresholds.throttles_per_minute
        description = "Lambda throttles ${local.names[name]}:${var.alias}"
      }
    }
  ]...)
}

resource "aws_cloudwatch_metric_alarm" "counted" {
  for_each = local.counted

  alarm_name          = "${var.prefix}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  dimensions          = local.alarm_dimensions[each.value.function]
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "near_timeout" {
  for_each = { for name, one in var.functions : name => one if one.duration_alarm }

  alarm_name          = "${local.names[each.key]}-near-timeout"
  alarm_description   = "Invocations of ${local.names[each.key]}:${var.alias} come near the timeout"
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = var.alarm_thresholds.timeout_percent
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags

  metric_query {
    id    = "percent"
    label = "Part of the timeout in percent"
    # Milliseconds of a timeout in seconds: 100 * d / (1000 * timeout).
    expression  = "duration / (10 * ${each.value.timeout})"
    return_data = true
  }

  metric_query {
    id = "duration"

    metric {
      namespace   = "AWS/Lambda"
      metric_name = "Duration"
      dimensions  = local.alarm_dimensions[each.key]
      stat        = "Maximum"
      period      = 60
    }
  }
}
