"""What pruned and rounded layers can be given back in closed form.

Tensors of single layers only; nothing here decides which policy to take.
"""
