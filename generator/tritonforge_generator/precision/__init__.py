"""Stage that writes number types into the graph."""
