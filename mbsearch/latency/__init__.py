"""Latency: measured by a runtime, and predicted by a model that is fitted to measurements."""
