"""What the service does to the world outside: it tells people. Nothing here decides anything, and
nothing here is done in a replay: only a master that reigns asks for it."""
