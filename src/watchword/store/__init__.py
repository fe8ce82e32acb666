"""Where records live: one contract, several stores."""
