"""Display progress and log messages on a console, for the command line and Python API."""
