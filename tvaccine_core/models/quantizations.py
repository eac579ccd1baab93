"""How the weights of a base may be kept while adapters are trained on it. Imports no torch."""

NOT_QUANTIZED = "none"
FOUR_BIT = "4bit"
QUANTIZATIONS = (NOT_QUANTIZED, FOUR_BIT)
