"""The approval page: what the customer sees, opened by a partner's site in a frame, a window or a tab."""
