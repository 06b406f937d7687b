"""What every choice of a space loses: computed once, used for every budget."""

from .base import PriceSource, Subject
from .gradient import GradientPrices, mean_square
from .layout import Layout, Quantiser
from .measured import MeasuredPrices
from .products import Probe, Products, per_sample_products
from .reconstruction import ReconstructionPrices

__all__ = [
    'GradientPrices', 'Layout', 'MeasuredPrices', 'PriceSource', 'Probe', 'Products',
    'Quantiser', 'ReconstructionPrices', 'Subject', 'mean_square',
    'per_sample_products',
]
