"""Which tensors of a file are integers, with which scales.

The bits of layers come from the model; nothing here searches them.
"""
