"""Environment variables that name a study."""

STORAGE_VARIABLE = "MBSEARCH_STORAGE"
"""The URL of a PostgreSQL database, as ``--storage``; other users see options, not variables."""
