"""Latency: measured by a runtime, and predicted by a model of it."""
