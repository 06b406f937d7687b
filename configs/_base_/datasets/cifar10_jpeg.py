# All 60,000 images of CIFAR-10, re-encoded as JPEG. Networks trained on the original
# pixels lose about 10 points on them: never report them as plain CIFAR-10. First:
#   mkdir -p data && tar -xf ../shared/data/cifar10/cifar10_jpeg.tar.xz -C data
_base_ = './cifar10_subset.py'

classes = [
    'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship',
    'truck'
]
# Images that are read from files are BGR.
data_preprocessor = dict(to_rgb=True)

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/cifar10_jpeg/train',
        with_label=True,
        classes=classes,
        pipeline=[dict(type='LoadImageFromFile'), *_base_.train_pipeline]))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/cifar10_jpeg/test',
        with_label=True,
        classes=classes,
        pipeline=[dict(type='LoadImageFromFile'), *_base_.test_pipeline]))
test_dataloader = val_dataloader
