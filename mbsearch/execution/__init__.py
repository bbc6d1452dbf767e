"""Executors of evaluations: local processes, a Ray cluster, or a look-up in a table."""
