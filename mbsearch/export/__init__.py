"""Export of networks to files for other programs; every file is read back and compared."""
