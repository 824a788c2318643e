"""Whether explanations are right: measures of single explanations, and the checks that a version must pass."""
