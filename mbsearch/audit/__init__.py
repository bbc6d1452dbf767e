"""Whether the proxy can be trusted."""
