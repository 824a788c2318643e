"""Between what a person names (a category, a date, a text) and the numbers that a network takes."""
