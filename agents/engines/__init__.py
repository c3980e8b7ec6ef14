"""Who samples and scores: an interface (`base`), transformers (`hf`), vLLM (`vllm`), and prefix trees (`tree`)."""
