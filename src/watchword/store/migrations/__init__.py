"""The schema of the SQLite store, one numbered file a step; a step that was released never changes."""
