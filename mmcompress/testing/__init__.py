"""What each kind of part must satisfy, as test classes to inherit."""

from .costing import CostContract
from .mutating import MutatorContract
from .predicting import PredictorContract
from .searching import SearcherContract, run_search, toy_prices, toy_score
from .toy import (
    TOY_MACS,
    TOY_PARAMS,
    chain_graph,
    toy_costs,
    toy_graph,
    toy_scores,
    toy_space,
)
from .toy_network import ToyNetwork

__all__ = [
    'TOY_MACS', 'TOY_PARAMS', 'CostContract', 'MutatorContract', 'PredictorContract',
    'SearcherContract', 'ToyNetwork', 'chain_graph', 'run_search', 'toy_costs',
    'toy_graph', 'toy_prices', 'toy_score', 'toy_scores', 'toy_space',
]
