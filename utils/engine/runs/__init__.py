"""A run on disk: `logs/NAME/`, what it holds, and how to go on with it."""
