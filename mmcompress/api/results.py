"""What a search writes of its policies: files, slim checkpoints, facts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..evaluation import PolicyEvaluator
from ..files import replacing
from ..plain import plain
from ..policy import Policy
from ..policy.files import PolicyFile
from ..searchers import Evaluated
from ..session import Session


def write_policy(
    path: Path, policy: Policy, session: Session, facts: Mapping[str, Any]
) -> None:
    """Write a policy as a file that rebuilds its network.

    Args:
        path (Path): The file.
        policy (Policy): The policy.
        session (Session): The model it belongs to.
        facts (Mapping): Costs, score and origin, as JSON-ready data.
    """
    PolicyFile(
        policy, session.graph.fingerprint, session.graph.input_shape,
        session.mutator.channels(policy), facts).save(path)


def facts_of(evaluated: Evaluated) -> dict[str, Any]:
    """What a policy file says about an evaluated policy."""
    return dict(costs=dict(evaluated.costs), score=evaluated.score,
                evaluation=evaluated.number)


def write_checkpoint(path: Path, policy: Policy, session: Session) -> None:
    """Write the slim weights of a policy, with the statistics it was scored with.

    Args:
        path (Path): The checkpoint, beside a policy file of the same stem.
        policy (Policy): The policy.
        session (Session): Materialises it.
    """
    meta = session.evaluator.dataset_meta
    write_weights(path, session.materialise(policy),
                  **(dict(dataset_meta=plain(meta)) if meta else {}))


def write_weights(path: Path, model: nn.Module, **meta: Any) -> None:
    """Write a checkpoint beside the policy file of the same stem.

    Args:
        path (Path): The checkpoint; it appears complete or not at all.
        model (nn.Module): The network of the policy.
        meta: What else to say in the checkpoint's ``meta``.
    """
    meta = dict(policy=path.with_suffix('.json').name, **meta)
    with replacing(path) as temporary:
        torch.save(dict(meta=meta, state_dict=model.state_dict()), temporary)


def evaluation_facts(evaluator: PolicyEvaluator) -> dict[str, str]:
    """How scores were measured, for the report."""
    return {
        'date': datetime.now().strftime('%Y-%m-%d %H:%M'),
        'images': f'{evaluator.images} to score, {evaluator.calibration_images} '
                  f'to calibrate (disjoint), drawn by seed {evaluator.seed}; '
                  f'dynamic BN: {evaluator.mode}',
        'torch': f'{torch.__version__} on {evaluator.device}',
    }
