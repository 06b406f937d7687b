"""Does the repair bring a slim network back towards the dense one?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmcompress.data.images import Batch
from mmcompress.evaluation.dynamic_bn import recalibrate
from mmcompress.graph.inputs import FEW
from mmcompress.kinds import kind_of
from mmcompress.mutators import Calibration, ChannelMutator, JointMutator, Mutator
from mmcompress.mutators.reconstruct import ReconstructMutator
from mmcompress.policy import Policy
from mmcompress.surgery.copies import copy_of

from .subject import Failed, Subject, outputs_on

CALIBRATION, OTHERS = 32, 8
"""Random images that the repair is made from, and that it is judged on."""
TOGETHER = 8
"""Images of a batch."""


def check_repair(subject: Subject) -> str:
    """Order channels by ``'obs'``, slice, repair: nearer to the dense network?

    Of the two forms of the repair, the one that is nearer on other images than the
    calibration images counts, as in a session. It is judged on a third set. Batch
    norms have the statistics of the calibration images in the dense network, and no
    others in the slim ones.
    """
    model = copy_of(subject.model).eval()
    kind, shape = kind_of(model), subject.graph.trace_shape
    calibration, choice, others = (
        batches_of(model, shape, count, seed)
        for seed, count in enumerate((CALIBRATION, OTHERS, OTHERS)))
    with kind.fixed_regions(model, shape, FEW):
        recalibrate(model, calibration)
    dense = [Dense(model, batches) for batches in (choice, others, calibration)]
    channel = ChannelMutator(importance='obs', divisor=subject.mutator.divisor)
    repair = ReconstructMutator()
    joint = JointMutator(channel, repair)
    with kind.fixed_regions(model, shape, FEW):
        joint.prepare(model, subject.graph, Calibration(calibration))

    def distances(mutator: Mutator) -> list[float]:
        slim = written(mutator, subject.policy)
        return [reference.distance(slim) for reference in dense]

    plain = distances(channel)
    with repair.writing(False):
        closed = distances(joint)
    with repair.writing(True):
        fitted = distances(joint)
    best = min(closed, fitted)
    found = (f'{plain[1]:.3g} sliced, {best[1]:.3g} repaired '
             f'({plain[2]:.3g}, {best[2]:.3g} on calibration images)')
    if not best[1] < plain[1]:
        raise Failed(f'not nearer: {found}')
    return found


def batches_of(
    model: nn.Module, shape: tuple[int, ...], count: int, seed: int
) -> list[Batch]:
    """Random images, other ones for every seed."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((count, *shape), generator=generator)
    kind, like = kind_of(model), next(model.parameters())
    return [kind.batch(model, part.to(like), FEW) for part in images.split(TOGETHER)]


def written(mutator: Mutator, policy: Policy) -> nn.Module:
    """The slim network, though regions are fixed only while it is written."""
    model = mutator.model
    slim, kind = copy_of(model), kind_of(model)
    with kind.fixed_regions(model, mutator.graph.trace_shape, FEW):
        mutator.write(slim, policy, mutator.kept(policy))
    return slim.eval()


class Dense:
    """Raw outputs of the dense network on some images.

    Args:
        model (nn.Module): The network.
        batches (Sequence[Batch]): The images.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        self.batches = batches
        self.outputs = [outputs_on(model, batch) for batch in batches]

    def distance(self, model: nn.Module) -> float:
        """Squared differences over the squared deviations from the means.

        Both are summed over all outputs, so that each place of a map counts alike.
        """
        pairs = [list(zip(outputs_on(model, batch), wanted, strict=True))
                 for batch, wanted in zip(self.batches, self.outputs)]
        off = sum(float((x - y).square().sum()) for pair in pairs for x, y in pair)
        return off / sum(map(spread, zip(*self.outputs)))


def spread(parts: Sequence[Tensor]) -> float:
    """Squared deviations of an output's values from their mean."""
    values = torch.cat([part.flatten() for part in parts])
    return float((values - values.mean()).square().sum())
