"""Who samples and scores: an interface (`base`), transformers (`hf`), and prefix trees (`tree`)."""
