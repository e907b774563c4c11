"""The commands behind docs/evidence.md, their rows, and what is worked out of their runs."""
