"""What the detectors and trackers of mmdet need besides an image."""
