"""Solvers that turn prices and budgets into policies."""

from .barrier import Answers, solve
from .exact import Solution, exact, solve_linear
from .knapsack import Curve, greedy, refill, sweep

__all__ = [
    'Answers', 'Curve', 'Solution', 'exact', 'greedy', 'refill', 'solve',
    'solve_linear', 'sweep',
]
