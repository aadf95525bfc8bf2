"""The judging rooms on data that somebody already has, and the judges themselves judged: no recipe, no model to tune."""
