"""From the config of a dense model to that of a compressed one."""

from __future__ import annotations

import copy
import os.path as osp

from mmengine.config import Config

from ..errors import CompressionError
from ..policy.files import PolicyFile
from ..policy.points import POINTS


def compress_config(cfg: Config, policy: str, checkpoint: str | None = None) -> None:
    """Make ``cfg`` build the network of a policy, in place.

    Args:
        cfg (Config): Config of the dense model.
        policy (str): Policy file; read once here so that mistakes show early.
        checkpoint (str | None): Weights to load, dense or slim. Defaults to the
            slim checkpoint beside the policy file, else ``cfg.load_from``.
    """
    file = PolicyFile.load(policy)
    cfg.model = dict(
        type='mmcompress.Compressed', architecture=copy.deepcopy(cfg.model),
        policy=osp.abspath(policy), **_what_tools_read(cfg.model))
    beside = osp.splitext(policy)[0] + '.pth'
    if file.policy.bits:
        _prepare_for_bits(cfg)
    if checkpoint:
        cfg.load_from = checkpoint
    elif osp.isfile(beside):
        cfg.load_from = beside


def _prepare_for_bits(cfg: Config) -> None:
    """Calibrate before training where scales are missing; do not decay scales."""
    quant = (cfg.get('compression') or {}).get('quant') or {}
    options = {k: quant[k] for k in ('observer', 'symmetric') if k in quant}
    cfg.model['symmetric'] = bool(options.get('symmetric', False))
    cfg.custom_hooks = [
        *(cfg.get('custom_hooks') or []),
        dict(type='mmcompress.CalibrationHook', **options)]
    wrapper = cfg.get('optim_wrapper') or {}
    paramwise = dict(wrapper.get('paramwise_cfg') or {})
    if (wrapper.get('optimizer') or {}).get('weight_decay'):
        paramwise['custom_keys'] = {
            **{name: dict(decay_mult=0.0)
               for name in ('weight_quantizer', 'input_quantizer', POINTS)},
            **paramwise.get('custom_keys', {})}
    if paramwise:
        # Layers that read one tensor share a quantiser.
        wrapper['paramwise_cfg'] = dict(paramwise, bypass_duplicate=True)


def distil_config(
    cfg: Config, teacher: dict, checkpoint: str | None, weight: float
) -> None:
    """Make ``cfg`` train its model with the dense one as a teacher, in place.

    Raises:
        CompressionError: There is no checkpoint for the teacher.
    """
    if not checkpoint:
        raise CompressionError(
            '--distill needs the weights of the dense model; set load_from in the '
            'config.')
    cfg.model = dict(
        type='mmcompress.Distilled', student=cfg.model, teacher=teacher,
        teacher_checkpoint=checkpoint, weight=weight, **_what_tools_read(teacher))


def _what_tools_read(architecture: dict) -> dict:
    """Keys that mmdet reads of every model; empty, they change nothing."""
    return dict(backbone=dict()) if 'backbone' in architecture else {}
