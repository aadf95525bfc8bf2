"""zhiling (指令): automatic construction of instructions for instruction-tuning language models."""
