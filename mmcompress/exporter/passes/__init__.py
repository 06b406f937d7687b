"""Rewrites of an exported graph that change its form, not its values.

What becomes an integer is decided in `export.quantise`.
"""
