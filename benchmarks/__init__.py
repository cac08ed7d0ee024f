"""Speed, measured: side by side with Envoy, stage by stage, and as a ratio that CI can watch."""
