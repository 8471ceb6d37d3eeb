"""What we claim, as commands that measure it: `learning` (does it get better?), `training` (how fast?), `gate` (does it refuse?),
`serving` (how soon and how fast does it answer?).

They see both sides of the product. The peers they measure beside it are in the extra `benchmark`, never in the product.
"""
