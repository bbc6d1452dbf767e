"""The page where a network is chosen. Reads a study's storage and nothing else; no torch."""
