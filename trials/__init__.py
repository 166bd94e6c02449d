"""Long trials of what must never break, run by hand: docs/reliability.md says which, and what they found."""
