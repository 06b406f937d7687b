"""The golden runs: which commands are run, and which of their files are kept.

Commands are those of users, because the redesign keeps command lines, configs and
files while it moves the modules behind them. Every case runs in a folder of its own;
``../shared/data`` and ``../pretrained`` are beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CONFIGS = '{checkout}/configs'
SEED = 'randomness.seed=0'
EVALUATOR, SEARCHER = 'search_cfg.evaluator', 'search_cfg.searcher'


@dataclass(frozen=True)
class Case:
    """One golden run.

    Args:
        name (str): Its name, and that of its folder.
        commands (tuple[tuple[str, ...], ...]): Arguments of Python, one command after
            the other. ``{checkout}`` is the code that is recorded, ``{golden}`` the
            folder of these scripts.
        kept (tuple[tuple[str, str], ...]): What is kept of them: the name of a
            function of :mod:`artefacts` and the path that it reads.
        limit (int): Seconds that one command may take, on a busy machine too.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    kept: tuple[tuple[str, str], ...]
    limit: int = field(default=7200, repr=False)  # Of no matter to the results.


def tool(name: str, config: str, *arguments: str, **options: object) -> tuple[str, ...]:
    """The command line of a tool.

    Args:
        name (str): Of the tool, e.g. ``'search'``.
        config (str): Path below ``configs/``.
        arguments (str): Its further arguments.
        options (object): For ``--cfg-options``, with two underscores for a dot.
    """
    pairs = [f'{key.replace("__", ".")}={value}' for key, value in options.items()]
    return (f'{{checkout}}/tools/{name}.py', f'{CONFIGS}/{config}', *arguments,
            '--cfg-options', SEED, *pairs)


def search(config: str, *pairs: str, folder: str = 'search') -> tuple[str, ...]:
    """A search that writes to ``folder``; ``pairs`` are for ``--cfg-options``."""
    # Candidates are repaired by default since issue 20; these runs compare the rest.
    return (*tool('search', config, '--work-dir', folder), *pairs,
            'compression.reconstruct=False')


def scored_on(images: int, calibration: int, batch: int) -> tuple[str, ...]:
    """Options that limit the images of an evaluator."""
    return (f'{EVALUATOR}.images={images}',
            f'{EVALUATOR}.calibration_images={calibration}',
            f'{EVALUATOR}.batch_size={batch}')


def classifier(depth: int) -> str:
    """The option that starts a CIFAR network from its converted checkpoint."""
    return f'load_from=../pretrained/resnet{depth}_cifar10.pth'


YOLOX_CHECKPOINT = '../shared/data/yolox_nano/yolox_nano_coco_mmdet.pth'
W8A8 = 'quantisation/ptq_w8a8_yolox-nano_coco128.py'
TWO_STAGE = 'two_stage/two_stage_resnet20_cifar10.py'
SUPERNET = 'swp/swp_resnet20_cifar10_supernet.py'
FEW_IMAGES = dict(
    train_dataloader__dataset__indices=256, val_dataloader__dataset__indices=128)

CASES = (
    Case(
        'evolution',
        (search(
            'evolution/evolution_yolox-nano_coco128.py', *scored_on(16, 8, 8),
            'search_cfg.targets.macs=[0.9,0.7]', f'{SEARCHER}.evaluations=10',
            f'{SEARCHER}.initial=0.1'),),
        (('searched', 'search'),)),
    Case(
        'two_stage',
        (search(
            TWO_STAGE, classifier(20), *scored_on(200, 100, 100),
            'search_cfg.prices.images=48', 'search_cfg.prices.batch_size=16',
            'search_cfg.targets.bops=[0.03,0.017]', f'{SEARCHER}.evaluations=8'),),
        (('searched', 'search'),)),
    Case(
        'seernet',
        (search(
            'seernet/seernet_resnet20_cifar10.py', classifier(20),
            *scored_on(200, 100, 100), 'search_cfg.targets.bops=[0.03,0.017]',
            # A loss shows what the shares of right answers round away.
            f'{EVALUATOR}.metric=loss', f'{SEARCHER}.evaluations=12',
            f'{SEARCHER}.batch=2', f'{SEARCHER}.population=40',
            f'{SEARCHER}.generations=4', f'{SEARCHER}.starts=3',
            f'{SEARCHER}.steps=15'),),
        (('searched', 'search'),)),
    Case(
        'legr',
        (search(
            'legr/legr_resnet56_cifar10.py', classifier(56),
            *scored_on(200, 100, 100), 'search_cfg.targets.macs=[0.7,0.5]',
            f'{SEARCHER}.evaluations=8', f'{SEARCHER}.population=4',
            f'{SEARCHER}.tournament=2', f'{EVALUATOR}.finetune.steps=1',
            f'{EVALUATOR}.finetune.batch_size=16'),),
        (('searched', 'search'),)),
    Case(
        'swp',
        (tool('train', SUPERNET, '--work-dir', 'supernet', **FEW_IMAGES,
              train_dataloader__batch_size=64, train_cfg__max_epochs=2,
              train_cfg__val_interval=2),
         search(
             'swp/swp_resnet20_cifar10.py', 'load_from=supernet/epoch_2.pth',
             *scored_on(200, 100, 100), 'search_cfg.targets.macs=[0.5]',
             f'{SEARCHER}.evaluations=12', f'{SEARCHER}.islands=2',
             f'{SEARCHER}.population=2', f'{SEARCHER}.top=2', f'{SEARCHER}.every=1')),
        (('digest', 'supernet/epoch_2.pth'), ('searched', 'search'))),
    Case(
        'finetune',
        # Widths and bits, so that pruning, quantisers and their calibration are in it.
        (search(
            TWO_STAGE, classifier(20), *scored_on(64, 32, 32),
            'search_cfg.prices.images=16', 'search_cfg.prices.batch_size=16',
            'search_cfg.targets.bops=[0.02]', f'{SEARCHER}.evaluations=1'),
         tool('train', TWO_STAGE, '--policy', 'search/policies/bops_0.02.json',
              '--distill', '--work-dir', 'finetune', **FEW_IMAGES,
              train_dataloader__batch_size=64, train_cfg__max_epochs=1,
              load_from='../pretrained/resnet20_cifar10.pth'),
         tool('test', TWO_STAGE, 'finetune/epoch_1.pth', '--policy',
              'search/policies/bops_0.02.json', '--work-dir', 'test', '--out',
              'metrics.json', test_dataloader__dataset__indices=256)),
        (('searched', 'search'), ('digest', 'finetune/epoch_1.pth'),
         ('table', 'metrics.json'))),
    Case(
        'w8a8',
        (search(W8A8, *scored_on(8, 16, 8)),
         tool('export', W8A8, 'search/policies/bops_0.99.pth', '--policy',
              'search/policies/bops_0.99.json', '--work-dir', 'export', '--out',
              'w8a8.onnx', '--calibration-images', '8', '--model-out', 'twin.json'),
         tool('test', W8A8, 'w8a8.onnx', '--backend', 'onnxruntime', '--threads', '1',
              '--work-dir', 'test', '--out', 'metrics.json',
              test_dataloader__dataset__indices=16,
              test_dataloader__num_workers=0,
              test_dataloader__persistent_workers=False)),
        (('searched', 'search'), ('onnx_file', 'w8a8.onnx'), ('table', 'twin.json'),
         ('weights', 'twin.pth'), ('table', 'metrics.json'))),
    Case(
        'faster_rcnn',
        (('{golden}/networks.py', 'faster_rcnn'),),
        (('table', 'graph.json'), ('arrays', 'outputs.npz'))),
    Case(
        'retinanet',
        (('{golden}/networks.py', 'retinanet',
          f'{CONFIGS}/evolution/evolution_retinanet_r50_coco.py'),),
        (('table', 'graph.json'), ('arrays', 'table.npz'))),
)


def chosen(names: list[str] | None) -> tuple[Case, ...]:
    """The cases of these names, all by default.

    Raises:
        SystemExit: There is no case of a name.
    """
    known = {case.name: case for case in CASES}
    if unknown := sorted(set(names or ()) - set(known)):
        raise SystemExit(f'No golden run {unknown[0]!r}; there are {", ".join(known)}.')
    return tuple(known[name] for name in names) if names else CASES
