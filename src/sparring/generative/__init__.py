"""Generative models, and the latent codes of images in them."""
