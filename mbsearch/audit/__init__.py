"""Audit of the proxy: does it rank networks as a long training does?"""
