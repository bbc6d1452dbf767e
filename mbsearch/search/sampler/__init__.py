"""The cost-aware sampler for Optuna."""
