"""Networks as files for other programs; every file is read back and compared before it counts."""
