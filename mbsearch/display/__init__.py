"""Display of progress and log records on a console, for the command line and the Python API."""
