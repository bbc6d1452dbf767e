"""Export of networks to files for other programs. Every file is read back and compared."""
