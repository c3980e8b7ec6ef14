"""Graders: pure functions from text to a verdict; none of them knows of Gymnasium."""
