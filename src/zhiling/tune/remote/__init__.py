"""Supervised tuning at a provider: `base` says which, `rows` checks and writes what it is sent, `cost` what it may cost, `job` does it.

    zhiling tune data.jsonl --base openai:gpt-4.1-mini-2025-04-14 -o tuned --set epochs=3 --set budget=5

Everything that is paid for is noted on disk (`state`) before the next step, so that the same command goes on after any end.
"""
