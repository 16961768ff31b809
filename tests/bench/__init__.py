"""What the collection costs, beside what else would do the same."""
