"""What runs Keepwell: the local stack, compose, Helm, Grafana and Prometheus files."""
