"""Pictures of explanations, PNG or SVG: each is a function of plain arrays and a caption. `draw.py` lists them."""
