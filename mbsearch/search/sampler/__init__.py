"""The cost-aware Optuna sampler."""
