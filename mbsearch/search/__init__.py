"""Which network is trained next: Optuna studies, samplers, the driver and its executors."""
