"""Analysis: pure functions of a study's records."""
