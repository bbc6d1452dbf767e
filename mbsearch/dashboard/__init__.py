"""The dashboard: pages for choosing a network, which read the study's storage only; no torch."""
