"""What tools/check_zoo.py checks of a config, and the table of its results.

Processes, limits and files of results belong to the tool itself.
"""
