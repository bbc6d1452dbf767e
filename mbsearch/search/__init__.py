"""The search: suggest networks, schedule their trainings, and prune or complete trials."""
