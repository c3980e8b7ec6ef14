"""Run untrusted, model-written code in isolation.

This package is reserved in the distribution; the sandbox itself has not been written yet.
"""
