"""What a search writes of its policies: files, slim checkpoints, facts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import torch
from mmengine.config import Config

from ..evaluation import PolicyEvaluator
from ..mutators import JointMutator
from ..policy import ModelGraph
from ..policy.files import PolicyFile
from ..search import Evaluated
from .policy_model import write_weights


def write_policy(
    path: Path,
    best: Evaluated,
    graph: ModelGraph,
    mutator: JointMutator,
    facts: Mapping,
) -> None:
    """Write an evaluated policy as a file that rebuilds its network.

    Args:
        path (Path): The file.
        best (Evaluated): The policy, its costs and its score.
        graph (ModelGraph): The model it belongs to.
        mutator (JointMutator): Knows which channels the widths keep.
        facts (Mapping): What else to say about it, as JSON-ready data.
    """
    PolicyFile(
        best.policy, graph.fingerprint, graph.input_shape,
        mutator.channels(best.policy),
        dict(facts, costs=dict(best.costs), score=best.score, evaluation=best.number),
    ).save(path)


def write_checkpoint(
    path: Path, best: Evaluated, mutator: JointMutator, evaluator: PolicyEvaluator
) -> None:
    """Write the slim weights of a policy, with the statistics it was scored with.

    Args:
        path (Path): The checkpoint, beside a policy file of the same stem.
        best (Evaluated): The policy.
        mutator (JointMutator): Materialises it.
        evaluator (PolicyEvaluator): Recalibrates it as for its score.
    """
    slim = mutator.materialise(best.policy)
    evaluator.recalibrate(slim)
    write_weights(path, slim, dataset_meta=plain(evaluator.dataset_meta))


def evaluation_facts(evaluator: PolicyEvaluator) -> dict[str, str]:
    """How scores were measured, for the report."""
    return {
        'date': datetime.now().strftime('%Y-%m-%d %H:%M'),
        'images': f'{evaluator.images} to score, {evaluator.calibration_images} '
                  f'to calibrate (disjoint); dynamic BN: {evaluator.mode}',
        'torch': f'{torch.__version__} on {evaluator.device}',
    }


def describe(graph: ModelGraph) -> str:
    """One paragraph on what can be pruned, for the log."""
    lines = [f'{len(graph.units)} channel units govern {graph.governed:.1%} of the '
             f'MACs at input {"x".join(map(str, graph.input_shape))}; '
             f'{len(graph.excluded)} units left out.']
    if graph.unsupported:
        lines.append(f'MACs not counted: {graph.unsupported}.')
    if graph.unvisited:
        lines.append('Layers the forward pass never calls, which may not fit fewer '
                     f'channels: {graph.unvisited}.')
    return ' '.join(lines)


def plain(value):
    """Config values as JSON-ready data."""
    if isinstance(value, (Mapping, Config)):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)
