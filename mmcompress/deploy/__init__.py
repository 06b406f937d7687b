"""From policies to models that can be shipped."""

from .materialise import materialise

__all__ = ['materialise']
