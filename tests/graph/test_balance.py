"""Groups that lose equally many outputs: what is joined, and what stays."""

import torch
from torch import nn

from mmcompress.arithmetic.labels import LabelTracer
from mmcompress.graph.balance import balance


def together(tracer, block):
    """Positions of a block that leave together; those that stay are absent."""
    component = tracer.components()
    own = component[block.start:block.start + block.size]
    sets = [[i for i, c in enumerate(own) if c == label] for label in dict.fromkeys(own)
            if label != component[0]]
    return sorted(sets)


def traced(net, groups, size):
    model = net(lambda m, x: m.conv(x),
                conv=nn.Conv2d(groups, groups * size, 1, groups=groups))
    tracer = LabelTracer({}, balanced=frozenset({'conv'}))
    return model, tracer, tracer.block('conv', 'out', groups * size)


def test_one_of_each_group(net):
    model, tracer, block = traced(net, 2, 3)
    # Outputs 0 and 4 are tied and even; 5 must stay, so that 2 finds no partner.
    tracer.tie(block.atoms[0], block.atoms[4])
    tracer.pin(block.atoms[5])
    balance(model, tracer)
    assert together(tracer, block) == [[0, 4], [1, 3]]


def test_pairs_in_three_groups(net):
    model, tracer, block = traced(net, 3, 2)
    # 0 with 2, 3 with 4, 1 with 5: groups 0 and 1, 1 and 2, 0 and 2. All: two of each.
    tracer.tie(block.atoms[[0, 3, 1]], block.atoms[[2, 4, 5]])
    balance(model, tracer)
    assert together(tracer, block) == [[0, 1, 2, 3, 4, 5]]


def test_convs_that_share_nothing(net):
    model = net(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(2, 4, 1, groups=2),
                b=nn.Conv2d(4, 4, 1, groups=2))
    tracer = LabelTracer({}, balanced=frozenset({'a', 'b'}))
    blocks = [tracer.block(name, 'out', 4) for name in 'ab']
    tracer.pin(blocks[1].atoms[0])
    balance(model, tracer)
    assert together(tracer, blocks[0]) == [[0, 2], [1, 3]]
    assert together(tracer, blocks[1]) == [[1, 2]]
    # Those of a are not joined with those of b.
    component = torch.tensor(tracer.components())
    assert component[blocks[0].start] != component[blocks[1].start + 1]


def test_nothing_to_balance(net):
    model, tracer, block = traced(net, 2, 2)
    tracer.balanced = frozenset()
    balance(model, tracer)
    assert together(tracer, block) == [[0], [1], [2], [3]]
