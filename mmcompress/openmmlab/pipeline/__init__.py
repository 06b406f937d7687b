"""From a config to tested and timed files: every stage once, by one command.

A stage is a function of settings and of what earlier stages gave. Its result is a JSON
file in the work dir, with a digest of all of that; it is done if the file is there with
the same digest. So the command that was killed continues, and one with another setting
repeats just what the setting changes.
"""
