"""The third way: a model proposes, evidence decides. `instructions` makes instructions for a task; the other files make rows."""
