"""The contract of a mutator."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import PolicyError
from ..graph import trace, verify
from ..policy import Policy, SearchSpace
from .toy_network import ToyNetwork


class MutatorContract:
    """Tests that every mutator must pass.

    Inherit in a test class and set ``mutator``, e.g.::

        class TestChannelMutator(MutatorContract):
            mutator = ChannelMutator
            options = dict(divisor=2)

    Attributes:
        mutator (type): The class under test.
        options (Mapping): Its arguments. Defaults to none.
        tolerance (float): Relative error allowed between the acting and the
            materialised model, and between the outputs before and after
            :meth:`prepare`. Defaults to 1e-5.
        unknown (tuple[Policy, ...]): Policies that do not fit the toy network.
    """

    mutator: type
    options: Mapping[str, Any] = {}
    tolerance = 1e-5
    unknown: tuple[Policy, ...] = (Policy({'nope': 1}),)

    # -- what a subclass may replace -----------------------------------------
    def prepare(self, mutator: Any, model: nn.Module) -> None:
        """Prepare ``mutator`` on the toy network."""
        mutator.prepare(model, verify(model, trace(model, (3, 16, 16))))

    def space(self, mutator: Any) -> SearchSpace:
        """The space of the policies that are tried."""
        graph = trace(ToyNetwork(), (3, 16, 16))
        return SearchSpace.from_graph(graph, **mutator.space_options)

    # -- helpers of the tests ------------------------------------------------
    def make(self) -> tuple[Any, nn.Module]:
        """A prepared mutator and its model."""
        model, mutator = ToyNetwork().eval(), self.mutator(**self.options)
        self.prepare(mutator, model)
        return mutator, model

    def policies(self, mutator: Any) -> list[Policy]:
        """The cheapest policy, random ones and the least compressed one."""
        space = self.space(mutator)
        rng = np.random.default_rng(0)
        rows = [[rng.choice(c) for c in space.choices] for _ in range(3)]
        return space.decode(np.array([space.lowest, *rows, space.highest]))

    @staticmethod
    def outputs(model: nn.Module) -> list[Tensor]:
        """Outputs on a fixed image."""
        image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return [out.clone() for out in model(image)]

    def close(self, left: list[Tensor], right: list[Tensor]) -> bool:
        """Whether outputs agree within ``tolerance``."""
        return all(
            (a - b).abs().max() <= self.tolerance * b.square().mean().sqrt()
            for a, b in zip(left, right, strict=True))

    @staticmethod
    def equal(left: list[Tensor], right: list[Tensor]) -> bool:
        """Whether outputs agree bit for bit."""
        return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))

    @staticmethod
    def snapshot(model: nn.Module) -> tuple:
        """All that a policy might leave behind."""
        state = {k: v.clone() for k, v in model.state_dict().items()}
        names = [set(vars(m)) for m in model.modules()]
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks))
                 for m in model.modules()]
        flags = [m.training for m in model.modules()] + [
            p.requires_grad for p in model.parameters()]
        return state, (names, hooks, flags)

    @staticmethod
    def refused(call: Callable[[Policy], Any], policy: Policy) -> bool:
        """Whether a call raises :class:`PolicyError`."""
        try:
            call(policy)
        except PolicyError:
            return True
        return False

    def assert_same(self, model: nn.Module, before: tuple) -> None:
        """The model is what it was at its :meth:`snapshot`."""
        state, rest = self.snapshot(model)
        assert state.keys() == before[0].keys()
        assert all(torch.equal(v, before[0][k]) for k, v in state.items())
        assert rest == before[1]

    # -- the contract --------------------------------------------------------
    def test_preparing_changes_no_output(self):
        model = ToyNetwork().eval()
        dense, keys = self.outputs(model), model.state_dict().keys()
        self.prepare(self.mutator(**self.options), model)
        assert self.close(self.outputs(model), dense)
        assert model.state_dict().keys() == keys

    def test_policies_of_its_space_change_the_outputs(self):
        mutator, model = self.make()
        dense = self.outputs(model)
        for policy in self.policies(mutator)[:-1]:
            with mutator.acting(policy) as acting:
                assert acting is model
                assert not self.close(self.outputs(model), dense)

    def test_acting_equals_materialised(self):
        mutator, model = self.make()
        for policy in self.policies(mutator):
            with mutator.acting(policy):
                acting = self.outputs(model)
            slim = mutator.materialise(policy).eval()
            assert self.close(self.outputs(slim), acting), policy
            assert slim is not model and type(slim) is type(model)

    def test_an_empty_policy_is_the_dense_model(self):
        mutator, model = self.make()
        dense = self.outputs(model)
        with mutator.acting(Policy()):
            assert self.equal(self.outputs(model), dense)

    def test_reset_restores_exactly(self):
        mutator, model = self.make()
        dense, before = self.outputs(model), self.snapshot(model)
        for policy in self.policies(mutator):
            mutator.apply(policy)
            self.outputs(model)
            mutator.reset()
            self.assert_same(model, before)
            assert self.equal(self.outputs(model), dense)
        mutator.reset()  # once more does nothing
        self.assert_same(model, before)

    def test_an_error_while_acting_restores_too(self):
        mutator, model = self.make()
        before = self.snapshot(model)
        try:
            with mutator.acting(self.policies(mutator)[0]):
                raise KeyError
        except KeyError:
            pass
        self.assert_same(model, before)

    def test_materialising_leaves_the_model_alone(self):
        mutator, model = self.make()
        before = self.snapshot(model)
        slim = mutator.materialise(self.policies(mutator)[0])
        with torch.no_grad():
            for parameter in slim.parameters():
                parameter.fill_(7)
        self.assert_same(model, before)

    def test_the_state_dict_stays_dense_while_acting(self):
        mutator, model = self.make()
        before, parameters = self.snapshot(model)[0], list(model.parameters())
        for policy in self.policies(mutator):
            with mutator.acting(policy):
                state = model.state_dict()
                assert state.keys() == before.keys()
                assert all(torch.equal(v, before[k]) for k, v in state.items())
                assert all(a is b for a, b in zip(
                    model.parameters(), parameters, strict=True))

    def test_policies_follow_each_other_in_any_order(self):
        mutator, model = self.make()
        policies = self.policies(mutator)
        alone = []
        for policy in policies:
            with mutator.acting(policy):
                alone.append(self.outputs(model))
        for i in (2, 0, 4, 1, 1, 3, 0):
            mutator.apply(policies[i])
            assert self.equal(self.outputs(model), alone[i]), policies[i]
        mutator.reset()

    def test_two_mutators_agree(self):
        one, first = self.make()
        other, second = self.make()
        for policy in self.policies(one):
            with one.acting(policy), other.acting(policy):
                assert self.equal(self.outputs(first), self.outputs(second))

    def test_a_candidate_costs_no_copy_of_the_model(self):
        mutator, model = self.make()
        refuse = AssertionError('the model was copied')
        with patch.object(copy, 'deepcopy', side_effect=refuse), \
                patch.object(pickle, 'dumps', side_effect=refuse):
            for policy in self.policies(mutator):
                with mutator.acting(policy):
                    self.outputs(model)

    def test_gradients_reach_the_parameters_of_the_model(self):
        mutator, model = self.make()
        with mutator.acting(self.policies(mutator)[1]):
            sum(out.square().mean() for out in model(torch.ones(1, 3, 16, 16))
                ).backward()
        for name in ('stem', 'depth', 'head', 'fc'):
            grad = model.get_submodule(name).weight.grad
            assert grad.shape == model.get_submodule(name).weight.shape
            assert grad.isfinite().all() and grad.abs().sum() > 0

    def test_a_policy_that_does_not_fit_is_refused(self):
        mutator, model = self.make()
        before = self.snapshot(model)
        for policy in self.unknown:
            assert self.refused(mutator.apply, policy)
            assert self.refused(mutator.materialise, policy)
            self.assert_same(model, before)
