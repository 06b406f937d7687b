"""Images that are decoded once and stay in memory.

Nothing here scores or trains; datasets of OpenMMLab are opened in `openmmlab`.
"""
