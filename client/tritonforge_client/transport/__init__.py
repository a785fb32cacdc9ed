"""How requests travel. Each transport imports its own library only; the client picks one by the target's scheme."""
