"""The outside worlds, one per file, each behind a Protocol of `ports`: miners, repositories, sandboxes, task data."""
