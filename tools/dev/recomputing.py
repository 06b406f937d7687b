"""The model of a config, and what a policy of it costs."""

from __future__ import annotations

from math import isclose
from pathlib import Path

from mmengine.registry import init_default_scope

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.costs import costs_of
from mmcompress.errors import PolicyError
from mmcompress.openmmlab.cli import build_model
from mmcompress.openmmlab.config_files import read_config
from mmcompress.policy import ModelGraph, Policy
from mmcompress.policy.files import PolicyFile
from mmcompress.session import find_units


def graph_of(config: Path, file: PolicyFile) -> ModelGraph:
    """The verified units of a config's model.

    Raises:
        PolicyError: The policy belongs to another model.
    """
    cfg = read_config(config)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    graph = find_units(build_model(cfg), file.input_shape)
    file.check_model(graph.fingerprint, config.name)
    return graph


def shares_of(file: PolicyFile, graph: ModelGraph) -> dict[str, float]:
    """Costs as shares of the dense network's.

    Raises:
        PolicyError: The file states other costs than its policy has.
    """
    costs, stated = costs_of(graph, file.policy), file.facts['costs']
    wrong = [name for name, value in costs.items()
             if not isclose(stated.get(name, value), value, rel_tol=1e-9)]
    if wrong:
        raise PolicyError(
            f'The file states {wrong[0]} = {stated[wrong[0]]:.10g}, its policy has '
            f'{costs[wrong[0]]:.10g}. Write the policy again by its search.')
    dense = costs_of(graph, Policy())
    return {name: costs[name] / dense[name] for name in stated if name in costs}
