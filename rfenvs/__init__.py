"""Gymnasium text environments that say not only how good an attempt was, but why."""
