"""Where evaluations run: on this machine, on a Ray cluster, or looked up in a table."""
