"""Classifiers of torchvision, none of them known here: traced, verified, made small."""

import pytest
import torch

from mmcompress.graph import trace, verify
from mmcompress.policy import Policy
from mmcompress.surgery.materialise import materialise

models = pytest.importorskip('torchvision.models')

SMALL = dict(image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=24,
             mlp_dim=32)
CLASSIFIERS = {
    'convnext_tiny': dict(), 'densenet121': dict(),
    'efficientnet_b0': dict(), 'googlenet': dict(init_weights=False),
    'mnasnet0_5': dict(), 'mobilenet_v2': dict(), 'mobilenet_v3_small': dict(),
    'regnet_y_400mf': dict(), 'resnet18': dict(),
    'squeezenet1_1': dict(), 'swin_t': dict(), 'vit': SMALL}


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_half_of_a_classifier(name):
    torch.manual_seed(0)
    make = models.VisionTransformer if name == 'vit' else getattr(models, name)
    model = make(num_classes=10, **CLASSIFIERS[name]).eval()
    shape = (3, 32, 32) if name == 'vit' else (3, 64, 64)
    graph = verify(model, trace(model, shape))
    if name not in ('swin_t', 'vit'):  # the sum of a stem and positions holds these
        assert graph.governed > 0.9, f'{graph.governed:.0%}'
    heads = [u.name for u in graph.units if u.name.endswith('.q_proj')]
    assert len(heads) == (SMALL['num_layers'] if name == 'vit' else 0)
    slim = materialise(
        model, graph, Policy({u.name: -(-u.width // 2) for u in graph.units}))
    with torch.no_grad():
        assert slim(torch.randn(2, *shape)).shape == (2, 10)
    sizes = [sum(p.numel() for p in m.parameters()) for m in (slim, model)]
    assert sizes[0] < sizes[1]
