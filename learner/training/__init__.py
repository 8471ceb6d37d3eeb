"""Gradients: the estimator, its anchor to the base model, and the optimizer's steps over rated replies."""
