"""What layers compute with: labels of channels, quantisers and their ranges.

Tensors and arrays only; nothing here knows a model, a policy or a kind of layer.
"""
