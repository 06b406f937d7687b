"""The contract of a cost."""

from __future__ import annotations

import numpy as np
import torch

from ..costs import Costs
from .toy import toy_costs, toy_space


class CostContract:
    """Tests that every cost must pass.

    Inherit in a test class and set ``cost``, e.g.::

        class TestMacs(CostContract):
            cost = 'macs'
            dense = 979_968

    Attributes:
        cost (str): Name of the cost under test.
        dense (float | None): Cost of the uncompressed toy network, derived by
            hand. None (the default) for costs that are measured.
    """

    cost: str
    dense: float | None = None

    def make_costs(self) -> Costs:
        """Costs over a space with free widths, weight bits and activation bits."""
        return toy_costs(toy_space((2, 4, 8, 32), (4, 8, 32)))

    def rows(self, count: int) -> np.ndarray:
        """Random allowed rows."""
        space = self.make_costs().space
        rng = np.random.default_rng(0)
        return space.snap(rng.uniform(
            space.lowest, space.highest, (count, len(space))))

    def test_known_by_name(self):
        assert self.cost in self.make_costs().names()

    def test_dense_cost(self):
        value = self.make_costs().dense()[self.cost]
        assert np.isfinite(value) and value > 0
        if self.dense is not None:
            assert value == self.dense

    def test_many_rows_cost_what_each_costs_alone(self):
        costs, rows = self.make_costs(), self.rows(40)
        many = costs.of_rows(self.cost, rows)
        assert many.dtype == torch.float64 and many.shape == (40,)
        alone = torch.stack([costs.of_rows(self.cost, row) for row in rows])
        torch.testing.assert_close(many, alone, rtol=1e-12, atol=0)
        policies = [costs.of(p)[self.cost] for p in costs.space.decode(rows)]
        np.testing.assert_allclose(many.numpy(), policies, rtol=1e-12)

    def test_thousands_of_rows_in_one_call(self):
        costs = self.make_costs()
        rows = np.tile(self.rows(50), (30, 1))
        first = costs.of_rows(self.cost, rows[:50])
        torch.testing.assert_close(
            costs.of_rows(self.cost, rows), first.repeat(30), rtol=1e-12, atol=0)

    def test_any_batch_shape(self):
        costs, rows = self.make_costs(), self.rows(6)
        grid = costs.of_rows(self.cost, rows.reshape(2, 3, -1))
        torch.testing.assert_close(
            grid.flatten(), costs.of_rows(self.cost, rows), rtol=1e-12, atol=0)
        assert costs.of_rows(self.cost, rows[:0]).shape == (0,)

    def test_raising_a_column_never_lowers_the_cost(self):
        costs = self.make_costs()
        space = costs.space
        for row in self.rows(8):
            base = float(costs.of_rows(self.cost, row))
            assert 0 <= base <= costs.dense()[self.cost] * (1 + 1e-12)
            raised = np.repeat(row[None], len(space), axis=0)
            np.fill_diagonal(raised, space.highest)
            after = costs.of_rows(self.cost, raised).numpy()
            assert (after >= base * (1 - 1e-12)).all()

    def test_gradients_flow(self):
        costs = self.make_costs()
        # Between the choices, where also a table that interpolates is smooth.
        rows = torch.as_tensor(self.rows(3), dtype=torch.float64) - 0.37
        rows.requires_grad_()
        # A quadratic has no error in central differences but rounding.
        scale = 1 / costs.dense()[self.cost]
        assert torch.autograd.gradcheck(
            lambda x: costs.of_rows(self.cost, x) * scale, (rows,), eps=1e-3)
        costs.of_rows(self.cost, rows).sum().backward()
        assert rows.grad.abs().sum() > 0

    def test_rows_are_not_changed(self):
        costs, rows = self.make_costs(), self.rows(5)
        before = rows.copy()
        costs.of_rows(self.cost, rows)
        np.testing.assert_array_equal(rows, before)
