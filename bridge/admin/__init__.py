"""The admin server: health for orchestrators, metrics for Prometheus, routes and a status page for people."""
