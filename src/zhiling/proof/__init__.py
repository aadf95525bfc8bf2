"""Where `tune`, `llm` and `evaluate` meet: tune and compare within a run, measure and compare on files, probe a selection."""
