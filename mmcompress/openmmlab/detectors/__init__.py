"""What the detectors and trackers of mmdet need besides an image, and how they decode.

`openmmlab/kinds` puts these answers together for the core, which knows none of them.
"""
