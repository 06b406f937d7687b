_base_ = [
    'mmdet::yolox/yolox_nano_8xb8-300e_coco.py', '../_base_/search/legr_coco.py'
]
load_from = '{{$DATA_ROOT:../shared/data}}/yolox_nano/yolox_nano_coco_mmdet.pth'

# Squared weights rank channels of this depthwise network far worse than gradients.
compression = dict(channel=dict(importance='taylor', divisor=4))
search_cfg = dict(
    # Batches of mosaics: none of their images is one that is scored on.
    evaluator=dict(finetune=dict(steps=50, lr=0.001, batch_size=16)),
    targets=dict(macs=[0.9, 0.8, 0.7, 0.6, 0.5]))
