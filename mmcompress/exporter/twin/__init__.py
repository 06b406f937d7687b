"""A torch model that computes what a quantised file computes.

Writing the file itself lives in `export`.
"""
