"""Solvers that turn prices and budgets into policies."""

from .exact import Solution, exact, solve_linear
from .knapsack import Curve, greedy, refill, sweep

__all__ = ['Curve', 'Solution', 'exact', 'greedy', 'refill', 'solve_linear', 'sweep']
