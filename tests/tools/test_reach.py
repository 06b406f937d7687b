"""The share of networks that count is read from the CSV of `make zoo`."""

import pytest

from tools.dev import reach as tool
from tools.dev.reach import Reach, reach, text, write

COLUMNS = 'package,config,family,stage,reason,units,governed,export'
ROWS = [
    'mmdet,a.py,a,passed,,3,0.9,',
    'mmdet,b.py,b,passed,,3,0.4,',  # less than half of its MACs
    'mmdet,c.py,c,time,over 900 s,0,0.0,',
    'mmdet,unlisted.py,a,passed,,3,0.9,',
    'mmpretrain,_base_/models/d.py,d,passed,,3,0.5,',
    'mmpretrain,e.py,e,passed,,3,1.0,',  # of another folder than the one that is listed
]
FOUND = [Reach('mmdet', 4, 3, 1), Reach('mmpretrain', 2, 1, 1)]


@pytest.fixture
def lists(tmp_path):
    for (name, _), configs in zip(tool.LISTS.values(), ('abcx', 'de'), strict=True):
        (tmp_path / name).write_text(
            '\n'.join(['config,family', *(f'{c}.py,{c}' for c in configs)]))
    return tmp_path


def test_networks_of_the_lists_are_counted(lists):
    results = lists / 'zoo.csv'
    results.write_text('\n'.join([COLUMNS, *ROWS]))
    assert reach(lists, results) == FOUND
    # Nothing is checked yet where there is no file.
    assert reach(lists, lists / 'none.csv') == [
        Reach('mmdet', 4, 0, 0), Reach('mmpretrain', 2, 0, 0)]


def test_the_text_says_how_many_are_done():
    # 1 + 1 of 3 + 1 that were checked, of 4 + 2 that there are.
    assert text(FOUND, 'zoo.md') == (
        '**Reach**: 4 of the 6 networks of the model zoo are checked; 2 of these '
        '[count](zoo.md) (50.0%): mmdet 1 of 3, mmpretrain 1 of 1.\n')
    assert text([Reach('mmdet', 3, 0, 0)], 'zoo.md') == (
        '**Reach**: none of the 3 networks of the model zoo is checked by `make zoo` '
        'yet; samples [were](zoo.md).\n')


def test_it_stands_between_the_comments_of_a_page(lists, monkeypatch):
    page = lists / 'page.md'
    monkeypatch.setattr(tool, 'PAGES', {'page.md': ''})
    page.write_text('before\n<!-- reach -->\n<!-- end of reach -->\nafter\n')
    for _ in range(2):  # the second time replaces the first
        write(['page.md'], FOUND, lists)
    assert page.read_text() == (
        f'before\n<!-- reach -->\n{text(FOUND)}<!-- end of reach -->\nafter\n')
    page.write_text('no place')
    with pytest.raises(SystemExit, match=r'page\.md has no lines'):
        write(['page.md'], FOUND, lists)


@pytest.mark.parametrize('page', tool.PAGES)
def test_the_pages_have_a_place_for_it(page):
    assert len(tool.PLACE.findall((tool.ROOT / page).read_text())) == 1
