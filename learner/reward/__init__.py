"""Models of the ratings: what people go by, who they are, and what replies nobody rated are worth."""
