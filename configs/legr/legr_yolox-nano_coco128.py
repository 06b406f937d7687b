_base_ = [
    '../yolox/yolox_nano_coco128.py', '../_base_/search/prune_yolox-nano_coco128.py'
]

search_cfg = dict(
    searcher=dict(type='LeGR', evaluations=200, population=32, tournament=8))
