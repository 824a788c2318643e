"""Records of explanations: kept with what made them, found again by id, computed again bit for bit."""
