"""abiding: A/B tests of LLM system prompts that abide interruption."""

__version__ = "0.1.0"
