"""What stands before a protected endpoint, so that its handler runs for approved requests only."""
