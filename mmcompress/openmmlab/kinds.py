"""The kinds of OpenMMLab's models, which :func:`mmcompress.kinds.kind_of` finds.

Neither mmdet nor mmpretrain is imported before somebody has: a class of a package that
is not loaded fits no model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.images import Batch
from ..data.preprocessing import Normalisation
from ..errors import ExportError
from ..kinds import IMAGE, ModelKind, Piece, Suppression
from .annotations import annotated_samples, labelled
from .detectors import decoding, facts
from .detectors.grounded import WORDS, captions, grounded_outputs, is_grounded
from .detectors.inputs import (
    class_of,
    detector_samples,
    fixed_regions,
    is_detector,
    proposals,
)
from .detectors.regions import (
    Proposals,
    Regions,
    is_two_stage,
    proposing_outputs,
    region_heads,
)
from .detectors.tracking import described, features_kept, tracked_boxes

REGIONS = 'regions'
"""Name of the input that takes pooled features of regions, ``(R, C, h, w)``."""


class EngineModel(ModelKind):
    """Any model of mmengine: ``model(inputs, data_samples, mode)``."""

    def fits(self, model: nn.Module) -> bool:
        """See :meth:`ModelKind.fits`."""
        return isinstance(model, BaseModel)

    def raw(self, model: nn.Module, batch: Batch) -> Any:
        """See :meth:`ModelKind.raw`."""
        return model(batch.inputs, mode='tensor')

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See :meth:`ModelKind.loss`."""
        losses = model(batch.inputs, batch.samples(), mode='loss')
        return model.parse_losses(losses)[0]

    def predict(self, model: nn.Module, batch: Batch) -> Any:
        """See :meth:`ModelKind.predict`."""
        return model(batch.inputs, batch.samples(), mode='predict')

    def normalisation(self, model: nn.Module) -> Normalisation | None:
        """See :meth:`ModelKind.normalisation`; the data preprocessor knows it."""
        loader = model.data_preprocessor
        mean, std = (getattr(loader, key, None) for key in ('mean', 'std'))
        return Normalisation(
            [0.0] * 3 if mean is None else mean.flatten().tolist(),
            [1.0] * 3 if std is None else std.flatten().tolist(),
            # mmengine's preprocessors, then mmpretrain's
            getattr(loader, '_channel_conversion', getattr(loader, 'to_rgb', False)),
            getattr(loader, 'pad_value', 0))

    def images(self, model: nn.Module, shape: tuple[int, ...], count: int) -> Tensor:
        """See :meth:`ModelKind.images`; pixels are uniform before the normalisation."""
        generator = torch.Generator().manual_seed(0)
        images = torch.rand((count, *shape), generator=generator) * 255
        loader = model.data_preprocessor
        if not hasattr(loader, 'mean'):
            return images
        return (images - loader.mean.cpu()) / loader.std.cpu()

    def pieces(
        self, model: nn.Module, images: Tensor, boxes: bool = False
    ) -> list[Piece]:
        """See :meth:`ModelKind.pieces`; only more special kinds can be exported."""
        raise _not_exportable(model)

    def attach(
        self, model: nn.Module, network: Callable[[Tensor], Any],
        part: Callable[[str], Callable[[Tensor], Any]],
    ) -> None:
        """Let files compute what a model's network would.

        Args:
            model (nn.Module): Changed in place.
            network (Callable): The first file.
            part (Callable): From the name of a :class:`Piece` to its file.

        Raises:
            ExportError: The kind cannot be exported.
        """
        raise _not_exportable(model)


def _not_exportable(model: nn.Module) -> ExportError:
    return ExportError(
        f'{type(model).__name__} cannot be exported; one-stage detectors, Faster, '
        'Mask and Cascade R-CNNs of mmdet and image classifiers of mmpretrain can.')


class Headed(EngineModel):
    """A model whose network ends in one head: everything after it is arithmetic."""

    def head(self, model: nn.Module) -> nn.Module:
        """The head, which takes what ``extract_feat`` returns."""
        return model.bbox_head

    def pieces(
        self, model: nn.Module, images: Tensor, boxes: bool = False
    ) -> list[Piece]:
        """See :meth:`ModelKind.pieces`."""
        def raw(module: nn.Module, inputs: Tensor) -> Any:
            return self.head(module)(module.extract_feat(inputs))

        def decoded(module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
            return self.decode(module, inputs, raw(module, inputs))

        if boxes:
            return [Piece('', decoded, (images,))]
        return [Piece('', raw, (images,),
                      outputs=lambda structure: self.outputs(model, structure),
                      decoding=self.decoding(model))]

    def outputs(self, model: nn.Module, structure: Any) -> Sequence[dict[str, Any]]:
        """See ``outputs`` of :class:`Piece`; by default they are unknown."""
        return ()

    def decoding(self, model: nn.Module) -> dict[str, Any]:
        """See ``decoding`` of :class:`Piece`; by default it is unknown."""
        return {}

    def attach(
        self, model: nn.Module, network: Callable[[Tensor], Any],
        part: Callable[[str], Callable[[Tensor], Any]],
    ) -> None:
        """See :meth:`EngineModel.attach`."""
        self.head(model).forward = network
        model.extract_feat = lambda images, *_, **__: images


class Classifier(Headed):
    """An image classifier of mmpretrain with a head."""

    def fits(self, model: nn.Module) -> bool:
        """See :meth:`ModelKind.fits`."""
        module = sys.modules.get('mmpretrain.models.classifiers.image')
        return isinstance(
            model, getattr(module, 'ImageClassifier', ())) and model.with_head

    def head(self, model: nn.Module) -> nn.Module:
        """See :meth:`Headed.head`."""
        return model.head

    def annotated(
        self, model: nn.Module, shape: tuple[int, ...], count: int = 1
    ) -> Batch:
        """See :meth:`ModelKind.annotated`."""
        return Batch(self.examples(model, shape, count), labelled(model, count))

    def outputs(self, model: nn.Module, structure: Any) -> Sequence[dict[str, Any]]:
        """See :meth:`Headed.outputs`; heads whose predictions are mmpretrain's own."""
        from mmpretrain.models.heads import ClsHead, MultiLabelClsHead

        for kind, activation in ((ClsHead, 'softmax'), (MultiLabelClsHead, 'sigmoid')):
            predicts = getattr(type(model.head), '_get_predictions', None)
            if structure == 0 and predicts is kind._get_predictions:
                return [dict(role='classes', activation=activation)]
        return ()


class Detector(EngineModel):
    """A detector of mmdet, which is told about its images."""

    def fits(self, model: nn.Module) -> bool:
        """See :meth:`ModelKind.fits`."""
        return is_detector(model)

    def batch(
        self, model: nn.Module, images: Tensor, regions: int | None = None
    ) -> Batch:
        """See :meth:`ModelKind.batch`."""
        return Batch(images, [sample for image in images.split(1) for sample in
                              detector_samples(model, image, regions)])

    def annotated(
        self, model: nn.Module, shape: tuple[int, ...], count: int = 1
    ) -> Batch:
        """See :meth:`ModelKind.annotated`."""
        images = self.examples(model, shape, count)
        return Batch(images, [sample for image in images.split(1)
                              for sample in annotated_samples(model, image)])

    def fixed_regions(
        self, model: nn.Module, shape: tuple[int, ...], number: int | None = None
    ) -> AbstractContextManager[list]:
        """See :meth:`ModelKind.fixed_regions`."""
        return fixed_regions(model, shape, number)

    def raw(self, model: nn.Module, batch: Batch) -> Any:
        """See :meth:`ModelKind.raw`."""
        return model(batch.inputs, batch.samples(), mode='tensor')


class OneStage(Headed, Detector):
    """A detector whose ``bbox_head`` predicts boxes of every place of an image."""

    def fits(self, model: nn.Module) -> bool:
        """See :meth:`ModelKind.fits`; one that predicts in another way does not."""
        single = class_of('detectors.single_stage', 'SingleStageDetector')
        return isinstance(model, single) and type(model).__dict__.get(
            'predict', single.predict) is single.predict

    def can_decode(self, model: nn.Module) -> bool:
        """See :meth:`ModelKind.can_decode`."""
        return decoding.can_decode(self.head(model))

    def decode(
        self, model: nn.Module, images: Tensor, outputs: Any
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`ModelKind.decode`."""
        return decoding.decode(self.head(model), images, outputs)

    def outputs(self, model: nn.Module, structure: Any) -> Sequence[dict[str, Any]]:
        """See :meth:`Headed.outputs`."""
        return facts.head_outputs(self.head(model), structure) \
            if self.can_decode(model) else ()

    def decoding(self, model: nn.Module) -> dict[str, Any]:
        """See :meth:`Headed.decoding`."""
        return facts.head_decoding(self.head(model)) if self.can_decode(model) else {}

    def check_boxes(self, model: nn.Module) -> None:
        """See :meth:`ModelKind.check_boxes`."""
        if not self.can_decode(model):
            super().check_boxes(model)
        decoding.check_suppression(self.head(model))

    def suppression(self, model: nn.Module) -> Suppression:
        """See :meth:`ModelKind.suppression`."""
        return decoding.suppression_of(self.head(model))


class Grounded(Detector):
    """A detector that is told in words what to look for (GLIP, Grounding DINO)."""

    def fits(self, model: nn.Module) -> bool:
        """See :meth:`ModelKind.fits`."""
        return is_grounded(model)

    def batch(
        self, model: nn.Module, images: Tensor, regions: int | None = None
    ) -> Batch:
        """See :meth:`ModelKind.batch`; a few words stand for all."""
        found = super().batch(model, images, regions)
        for sample in found.data_samples:
            sample.text, sample.custom_entities = WORDS, True
        return found

    def raw(self, model: nn.Module, batch: Batch) -> Any:
        """See :meth:`ModelKind.raw`; of every round, where there are many words."""
        samples = batch.samples()
        features = model.extract_feat(batch.inputs)
        return [grounded_outputs(model, features, texts, samples)
                for texts in captions(model, samples)]


class LaneDetector(Detector):
    """A detector of lanes (CLRNet), whose own forward wants its images in a dict."""

    def fits(self, model: nn.Module) -> bool:
        """See :meth:`ModelKind.fits`."""
        return isinstance(model, class_of('detectors.clrnet_detector', 'CLRNet'))

    def raw(self, model: nn.Module, batch: Batch) -> Any:
        """See :meth:`ModelKind.raw`."""
        return model.bbox_head(model.extract_feat(batch.inputs), batch.samples())


class TwoStage(Detector):
    """A Faster, Mask or Cascade R-CNN: one file proposes, each head is another."""

    def fits(self, model: nn.Module) -> bool:
        """See :meth:`ModelKind.fits`."""
        return is_two_stage(model)

    def pieces(
        self, model: nn.Module, images: Tensor, boxes: bool = False
    ) -> list[Piece]:
        """See :meth:`ModelKind.pieces`."""
        rpn = model.rpn_head
        found = [Piece(
            '', proposing_outputs, (images,), (IMAGE,),
            outputs=lambda structure: facts.proposing_facts(rpn, structure),
            decoding=facts.proposing_decoding(rpn))]
        regions, example = Regions(model), [images[:1].numpy()]
        for head in region_heads(model):
            inputs_of = regions.inputs_of(head)
            pooled = torch.from_numpy(inputs_of(example)[0][:2])
            found.append(Piece(
                head.name, head.outputs, (pooled,), (REGIONS,), True, inputs_of,
                lambda _, head=head: facts.region_outputs(head, model),
                facts.region_decoding(head, model)))
        return found

    def attach(
        self, model: nn.Module, network: Callable[[Tensor], Any],
        part: Callable[[str], Callable[[Tensor], Any]],
    ) -> None:
        """See :meth:`EngineModel.attach`."""
        proposals = Proposals(network)
        model.extract_feat = proposals.features
        model.rpn_head.forward = proposals.rpn
        for head in region_heads(model):
            head.of(model).forward = part(head.name)
        if model.roi_head.with_shared_head:  # in the files
            model.roi_head.shared_head.forward = lambda pooled: pooled


class Tracker(EngineModel):
    """A tracker of mmdet, as the networks that look at one frame.

    Trackers have no forward pass of their own: association is no network. A track head
    describes objects by features of the detector; it gets boxes that stay.
    """

    def fits(self, model: nn.Module) -> bool:
        """See :meth:`ModelKind.fits`."""
        return isinstance(model, class_of('mot.base', 'BaseMOTModel'))

    def batch(
        self, model: nn.Module, images: Tensor, regions: int | None = None
    ) -> Batch:
        """See :meth:`ModelKind.batch`."""
        samples = [sample for image in images.split(1) for sample in
                   detector_samples(model.detector, image, regions)]
        for sample in samples:
            sample.tracked = proposals(
                images.shape[1:], regions or tracked_boxes(model))
        return Batch(images, samples)

    def fixed_regions(
        self, model: nn.Module, shape: tuple[int, ...], number: int | None = None
    ) -> AbstractContextManager[list]:
        """See :meth:`ModelKind.fixed_regions`."""
        return fixed_regions(model, shape, number)

    def raw(self, model: nn.Module, batch: Batch) -> Any:
        """Outputs of the detector, and of what tells objects apart."""
        samples, head = batch.samples(), getattr(model, 'track_head', None)
        with features_kept(model.detector) as features:
            outputs = [model.detector(batch.inputs, samples, mode='tensor')]
        if head is not None:
            boxes = [sample.tracked.bboxes.to(batch.inputs) for sample in samples]
            outputs.append(described(head, features[-1], boxes))
        if getattr(model, 'reid', None) is not None:
            crop = F.interpolate(batch.inputs, (256, 128))  # pedestrians
            outputs.append(model.reid(crop, mode='tensor'))
        return outputs


class VideoSegmenter(EngineModel):
    """A segmenter of mmdet whose head looks at all frames of a video at once."""

    def fits(self, model: nn.Module) -> bool:
        """See :meth:`ModelKind.fits`."""
        return isinstance(model, class_of('vis.mask2former_vis', 'Mask2FormerVideo'))

    def raw(self, model: nn.Module, batch: Batch) -> Any:
        """Of the images of a batch, as frames of one video."""
        return model.track_head(model.backbone(batch.inputs), None)


KINDS = (TwoStage(), Grounded(), LaneDetector(), OneStage(), Detector(),
         VideoSegmenter(), Tracker(), Classifier(), EngineModel())
"""The most special first."""
