"""What the main job costs, measured beside what it could cost at the least: see ``bench.run``."""
