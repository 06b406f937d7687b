"""Kinds of layers: what each does to channels, slices, masks and bits.

One page a kind. What walks a whole model lives in `surgery` and `graph`.
"""
