"""Views of a state for people: pure, from records to text and tables."""
