"""The search for a good specification: trials that many workers share, and what they propose."""
