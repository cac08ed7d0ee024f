"""The admin server: health for orchestrators, metrics for Prometheus, routes, a status page and its call console."""
