"""The `tourney` command: what people type, and what they see."""
