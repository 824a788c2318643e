"""What Vitrine's predictions are worth and what they cost, measured and printed as tables."""
