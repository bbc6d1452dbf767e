"""Fast training on CPUs and GPUs."""
