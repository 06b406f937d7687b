import numpy as np
from mmcompress.policy import ChannelScores
from mmcompress.search import LeGR
from mmcompress.testing import SearcherContract
from mmcompress.testing.toy import toy_graph
def toy_scores():
    rng=np.random.default_rng(3)
    g=toy_graph(); layers={l.name for l in g.layers}
    return ChannelScores('l2',{u.name:{m.layer: rng.exponential(size=u.width) for m in u.producers if m.layer in layers} for u in g.units})
class TestLeGR(SearcherContract):
    searcher=LeGR
    options=dict(scores=toy_scores(),population=8,tournament=4)
