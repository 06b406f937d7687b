"""Published policies as a table."""

from published_policies import write

from mmcompress.policy.published import published_in
from mmcompress.report.published import published_table


def test_scores_have_the_decimals_of_their_metric(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, 'a/net_macs_0.5')
    write(tmp_path, 'b/net_macs_0.5', metric='coco/bbox_mAP', score=0.3,
          dense_score=0.34)
    table = published_table(published_in(tmp_path))
    assert table.header == ('name', 'network', 'data', 'metric', 'MACs', 'score',
                            'dense', 'policy file')
    assert table.rows == (
        ('a/net_macs_0.5', 'ResNet-8', 'Digits', 'accuracy/top1', '50.0 %', '91.50',
         '92.00', 'a/policies/net_macs_0.5.json'),
        ('b/net_macs_0.5', 'ResNet-8', 'Digits', 'coco/bbox_mAP', '50.0 %', '0.3000',
         '0.3400', 'b/policies/net_macs_0.5.json'))


def test_bops_are_shown_where_layers_have_bits(tmp_path):
    write(tmp_path, 'a/net_bops_0.05', shares={'macs': 1.0, 'bops': 0.05})
    table = published_table(published_in(tmp_path))
    assert table.header[4:6] == ('MACs', 'BOPs')
    assert table.rows[0][4:6] == ('100.0 %', '5.0 %')
    # Away from here the whole path is shown.
    assert table.rows[0][-1] == str(tmp_path / 'a/policies/net_bops_0.05.json')
