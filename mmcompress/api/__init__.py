"""The front door: what `import mmcompress as mmc` shows.

Everything here composes the rooms below; no method of compression lives here.
"""
