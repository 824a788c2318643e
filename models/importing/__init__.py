"""A user's own `.keras` file as a version: checked, loaded where it can do no harm, and made to fit its signature."""
