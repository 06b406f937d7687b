"""Milliseconds: measured of layers, added up for policies, timed of files.

Other costs are arithmetic and live in `costs`.
"""
