"""Train language-model policies against any registered environment by on-policy self-distillation."""
