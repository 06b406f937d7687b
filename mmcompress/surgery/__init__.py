"""Changing a live model, for a while or for good.

Nothing here decides what to change: policies and graphs say that.
"""
