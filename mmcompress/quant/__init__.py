"""What quantisation needs of a model and its images: ranges, presets, points.

Acting as a policy lives in `mutators`, integers of files in `export`.
"""
