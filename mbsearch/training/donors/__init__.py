"""Donors: trained networks that candidates inherit weights from."""
