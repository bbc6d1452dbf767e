"""Latency of one image on a device: measurement, and a linear model of it."""
