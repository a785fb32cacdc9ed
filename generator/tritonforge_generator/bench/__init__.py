"""Speed of one model on every runtime and in every precision, side by side."""
