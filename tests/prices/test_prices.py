"""Prices of choices, from gradients and measured."""


import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from mmcompress.data.images import pick
from mmcompress.errors import CompressionError
from mmcompress.graph import trace, verify
from mmcompress.kinds import kind_of
from mmcompress.mutators import ChannelMutator
from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.openmmlab.images import load_batches
from mmcompress.policy import FLOAT, SearchSpace
from mmcompress.prices import Layout, Subject, mean_square
from mmcompress.prices.gradient import GradientPrices, mixes_images
from mmcompress.prices.measured import MeasuredPrices


class TinyNet(BaseModel):
    """Residual, depthwise and flattened: every way in which a channel is read."""

    def __init__(self) -> None:
        super().__init__(dict(type='mmengine.ImgDataPreprocessor'))
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.depth_bn = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 12, 1)
        self.outer = nn.Conv2d(12, 8, 3, padding='same', padding_mode='circular')
        self.fc = nn.Linear(32, 4)
        self.mixing = self.cut_off = False

    def forward(self, inputs: Tensor, data_samples: list | None = None,
                mode: str = 'tensor'):
        x = self.bn(self.stem(inputs)).relu()
        y = self.depth_bn(self.depth(x)).relu()
        x = y + self.outer(self.inner(y).relu())
        logits = self.fc(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))
        if mode == 'tensor':
            return logits
        if self.cut_off:
            logits = logits.detach() + x.mean((1, 2, 3))[:, None]
        labels = torch.tensor([s.label for s in data_samples])
        loss = nn.functional.cross_entropy(logits, labels, reduction='none')
        weight = loss.detach() if self.mixing else torch.ones(len(loss))
        return dict(loss=(loss * weight).sum() / weight.sum())


@DATASETS.register_module(force=True)
class TinySet(torch.utils.data.Dataset):
    """Random images with labels."""

    metainfo: dict = {}

    def full_init(self) -> None:
        """Nothing to read."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        sample = BaseDataElement(label=index % 4)
        return dict(inputs=torch.randn(3, 6, 6, generator=generator),
                    data_samples=sample)


class Rounding:
    """A quantiser that rounds to a fixed grid."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())

    def weight(self, layer: str, bits: int) -> Tensor:
        return self.activation(layer, self.modules[layer].weight.detach(), bits)

    def activation(self, layer: str, x: Tensor, bits: int) -> Tensor:
        return (x * 2 ** (bits - 1)).round() / 2 ** (bits - 1)


def make_subject(**bits) -> Subject:
    torch.manual_seed(0)
    model = TinyNet()
    nn.init.uniform_(model.bn.weight, 0.5, 1.5)
    nn.init.normal_(model.bn.bias)
    graph = verify(model.eval(), trace(model, (3, 6, 6)))
    mutator = ChannelMutator(divisor=2)
    mutator.prepare(model, graph)
    mutator.quantiser = Rounding(model)
    space = SearchSpace.from_graph(graph, divisor=2, **bits)
    evaluator = DatasetEvaluator(
        'loss', images=20, calibration_images=10, dataset=dict(type='TinySet'),
        dynamic_bn='off')
    evaluator.cfg = Config()
    evaluator.keep(
        model, [], load_batches(TinySet(), range(10), model.data_preprocessor, 5))
    return Subject(model, graph, space, mutator, evaluator, lambda _: None)


def loader(subject: Subject, images: int):
    def load(part: slice) -> list:
        return load_batches(TinySet(), range(images)[part],
                            subject.model.data_preprocessor, 8)
    return load


class Nowhere:
    """A store that keeps nothing."""

    def get(self, name: str, shape: object = None) -> None:
        return None

    def put(self, name: str, array: np.ndarray) -> None:
        pass


def gradients(model: nn.Module, images: int) -> dict[str, Tensor]:
    """Per-sample gradients of every parameter, by torch.func."""
    batch = load_batches(TinySet(), range(images), model.data_preprocessor, images)[0]
    labels = torch.tensor([s.label for s in batch.data_samples])

    def loss(parameters: dict, image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, parameters, (image[None],))
        return nn.functional.cross_entropy(logits, label[None])

    parameters = {n: p.detach() for n, p in model.named_parameters()}
    return vmap(grad(loss), (None, 0, 0))(parameters, batch.inputs, labels)


def test_terms_are_inner_products_with_per_sample_gradients():
    subject = make_subject(weight_bits=(2, 4, FLOAT))
    layout = Layout(subject.graph, subject.space)
    terms = GradientPrices(70).sample_terms(subject, loader(subject, 70), Nowhere())
    parts = iter(np.split(terms, np.cumsum(layout.sizes())[:-1], axis=1))
    modules, g = dict(subject.model.named_modules()), gradients(subject.model, 70)

    def inner(name: str, change: Tensor) -> np.ndarray:
        return (g[f'{name}.weight'] * change).flatten(1).sum(1).numpy()

    for unit in layout.readers:
        part = next(parts)
        for i, width in enumerate(subject.space.choices[unit]):
            expected = 0
            for member in layout.readers[unit]:
                weight = modules[member.layer].weight.detach()
                change = torch.zeros_like(weight)
                gone = member.positions[width:].ravel()
                change[:, gone] = -weight[:, gone]
                expected = expected + inner(member.layer, change)
            np.testing.assert_allclose(part[:, i], expected, rtol=1e-3, atol=1e-6)
    for name in subject.space.layers:
        part = next(parts)
        weight = modules[name].weight.detach()
        for i, bits in enumerate((2, 4)):
            change = subject.mutator.quantiser.weight(name, bits) - weight
            np.testing.assert_allclose(
                part[:, i], inner(name, change), rtol=1e-3, atol=1e-6)
        assert not part[:, 2].any()
    # 'inner' is read by 'outer' alone: what goes is zeroed, what stays is quantised.
    assert [(subject.graph.units[j.unit].name, subject.space.layers[j.layer])
            for j in layout.joints] == [('inner', 'outer')]
    part = next(parts).reshape(70, -1, 3)
    weight = modules['outer'].weight.detach()
    for i, width in enumerate(subject.space.choices[layout.joints[0].unit]):
        for j, bits in enumerate((2, 4, FLOAT)):
            kept = weight if bits == FLOAT else \
                subject.mutator.quantiser.weight('outer', bits)
            kept = kept.clone()
            kept[:, width:] = 0
            np.testing.assert_allclose(
                part[:, i, j], inner('outer', kept - weight), rtol=1e-3, atol=1e-6)


def test_activation_terms_are_inner_products_with_gradients_of_the_input():
    subject = make_subject(activation_bits=(3, FLOAT), prune=False)
    terms = GradientPrices(5).sample_terms(subject, loader(subject, 5), Nowhere())
    batch = loader(subject, 5)(slice(None))[0]
    model, seen = subject.model, {}
    for n in range(5):
        x = {}

        def keep(module, args, name, x=x):
            args[0].requires_grad_(True).retain_grad()
            x[name] = args[0]

        handles = [model.get_submodule(n_).register_forward_pre_hook(
            lambda m, a, n_=n_: keep(m, a, n_)) for n_ in ('inner', 'outer', 'fc')]
        logits = model(batch.inputs[n:n + 1])
        nn.functional.cross_entropy(logits, torch.tensor([n % 4])).backward()
        for name, value in x.items():
            rounded = subject.mutator.quantiser.activation(name, value.detach(), 3)
            change = (rounded - value.detach()).flatten()
            seen[n, name] = float(change @ value.grad.flatten())
        for handle in handles:
            handle.remove()
    for i, name in enumerate(subject.space.layers):
        # The input of 'inner' also feeds the sum; only its way through 'inner' counts.
        if name in ('outer', 'fc'):
            expected = [seen[n, name] for n in range(5)]
            np.testing.assert_allclose(terms[:, 2 * i], expected, rtol=1e-3, atol=1e-7)
    assert not terms[:, 1::2].any()


def test_price_is_half_the_mean_of_squares():
    # (1 + 9) / 2 / 2 and (4 + 4) / 2 / 2; the square of the mean would be 2 and 0.
    assert mean_square(np.array([[1.0, 2.0], [3.0, -2.0]])).tolist() == [2.5, 2.0]


def test_model_is_left_as_it_was():
    subject = make_subject()
    before = {k: v.clone() for k, v in subject.model.state_dict().items()}
    GradientPrices(5).sample_terms(subject, loader(subject, 5), Nowhere())
    assert all(p.requires_grad and p.grad is None for p in subject.model.parameters())
    for name, value in subject.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(m._forward_hooks for m in subject.model.modules())


def test_losses_that_mix_images_are_taken_one_by_one():
    subject = make_subject()
    batch = loader(subject, 8)(slice(None))[0]
    assert not mixes_images(subject.model, batch)
    subject.model.mixing = True
    assert mixes_images(subject.model, batch)
    one = GradientPrices(8).sample_terms(subject, loader(subject, 8), Nowhere())
    subject.model.mixing = False
    other = GradientPrices(8).sample_terms(subject, loader(subject, 8), Nowhere())
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('kind', [GradientPrices, MeasuredPrices])
def test_prices_are_kept_and_continued(kind, tmp_path):
    subject = make_subject()
    whole = kind(100).compute(subject, tmp_path)
    files = {f.name: f.stat().st_mtime_ns for f in tmp_path.rglob('*.npy')}
    assert len(files) > 1
    lost = sorted(tmp_path.rglob('*.npy'))[-1]
    lost.unlink()
    again = kind(100).compute(subject, tmp_path)
    np.testing.assert_allclose(again.price, whole.price, rtol=1e-6)
    for file in tmp_path.rglob('*.npy'):
        assert (file.stat().st_mtime_ns == files[file.name]) == (file.name != lost.name)
    # Other images, or other weights, are other prices.
    kind(99).compute(subject, tmp_path)
    with torch.no_grad():
        subject.model.fc.weight[0, 0] += 1
    kind(100).compute(subject, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_prices_avoid_the_images_of_the_evaluator():
    subject = make_subject()
    with pytest.raises(CompressionError, match='must not overlap'):
        GradientPrices(171).compute(subject, 'unused')


def test_measured_prices_are_rises_of_the_loss(tmp_path):
    subject = make_subject()
    table = MeasuredPrices(40).compute(subject, tmp_path)
    assert table.of_rows(subject.space.highest).tolist() == [0.0]
    row = subject.space.highest.copy()
    column = int(subject.space.free[0])
    row[column] = subject.space.choices[column][0]
    numbers = pick(200, [20, 10, 40], 0)[-1]
    batches = load_batches(TinySet(), numbers, subject.model.data_preprocessor, 40)
    with torch.no_grad():
        dense = float(kind_of(subject.model).loss(subject.model, batches[0]))
        with subject.mutator.acting(subject.space.decode(row)[0]):
            cut = float(kind_of(subject.model).loss(subject.model, batches[0]))
    assert table.of_rows(row)[0] == pytest.approx(cut - dense, abs=1e-5)


def test_measured_prices_are_distances_of_the_outputs(tmp_path):
    subject = make_subject()
    table = MeasuredPrices(40, batch_size=40, measure='distance').compute(
        subject, tmp_path)
    assert table.of_rows(subject.space.highest).tolist() == [0.0]
    row = subject.space.highest.copy()
    column = int(subject.space.free[0])
    row[column] = subject.space.choices[column][0]
    numbers = pick(200, [20, 10, 40], 0)[-1]
    (batch,) = load_batches(TinySet(), numbers, subject.model.data_preprocessor, 40)
    with torch.no_grad():
        dense = subject.model(batch.inputs)
        with subject.mutator.acting(subject.space.decode(row)[0]):
            cut = subject.model(batch.inputs)
    wanted = (cut - dense).square().mean() / dense.var(unbiased=False)
    assert wanted > 0
    assert table.of_rows(row)[0] == pytest.approx(float(wanted), rel=1e-4)
    with pytest.raises(CompressionError, match='measure of MeasuredPrices is one of'):
        MeasuredPrices(40, measure='taste')


def test_layers_outside_the_loss_are_an_error(tmp_path):
    subject = make_subject(weight_bits=(4, 8), prune=False)
    subject.model.cut_off = True
    with pytest.raises(CompressionError, match=r"'fc'.*MeasuredPrices"):
        GradientPrices(5).compute(subject, tmp_path)
