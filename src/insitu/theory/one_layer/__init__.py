"""One linear-attention layer: what training reaches, its risk on any test distribution, and how fast it learns."""
