"""Batches of images that are decoded once and stay in memory.

Nothing here opens a dataset, scores or trains; datasets of OpenMMLab are opened in
`openmmlab/images`.
"""
