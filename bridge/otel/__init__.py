"""OpenTelemetry: what the OTEL_ variables ask for, and the export of spans and metrics."""
