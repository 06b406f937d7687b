"""The dense baselines of the real data's READMEs, through mmengine's Runner."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmcompress.openmmlab.models import convert_akamaster


def run_test(config: Config, work_dir) -> dict:
    """Test as `tools/test.py` does, without worker processes."""
    config.work_dir = str(work_dir)
    config.test_dataloader.update(num_workers=0, persistent_workers=False)
    return Runner.from_cfg(config).test()


@pytest.mark.parametrize('depth, correct', [
    (20, 932),
    pytest.param(32, 944, marks=pytest.mark.slow),
    pytest.param(56, 943, marks=pytest.mark.slow),
])
def test_cifar_resnet(depth, correct, repo, shared_data, tmp_path):
    name = f'resnet{depth}_cifar10'
    config = Config.fromfile(repo / f'configs/cifar/{name}.py')
    config.test_dataloader.dataset.data_root = str(
        shared_data / 'cifar10/lossless6102')
    state = torch.load(shared_data / f'cifar_resnet/{name}.pth', weights_only=True)
    config.load_from = str(tmp_path / f'{name}.pth')
    torch.save({'state_dict': convert_akamaster(state)}, config.load_from)
    top1 = run_test(config, tmp_path)['accuracy/top1']
    assert top1 == pytest.approx(100 * correct / 1017, abs=1e-3)


@pytest.mark.slow
def test_yolox_nano(repo, shared_data, tmp_path):
    config = Config.fromfile(repo / 'configs/yolox/yolox_nano_coco128.py')
    root = shared_data / 'coco128'
    config.test_dataloader.dataset.data_root = f'{root}/'
    config.test_evaluator.ann_file = str(root / 'annotations/instances_val128.json')
    config.load_from = str(shared_data / 'yolox_nano/yolox_nano_coco_mmdet.pth')
    metrics = run_test(config, tmp_path)
    assert metrics['coco/bbox_mAP'] == pytest.approx(0.336, abs=1e-3)
    assert metrics['coco/bbox_mAP_50'] == pytest.approx(0.488, abs=1e-3)
