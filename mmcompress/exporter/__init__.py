"""From a model to an ONNX file, and running it.

Measuring milliseconds lives in `latency`.
"""
