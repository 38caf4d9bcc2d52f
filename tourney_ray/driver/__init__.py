"""What runs a tournament: records facts, settles them, plans, dispatches. Ray lives here, in few files."""
