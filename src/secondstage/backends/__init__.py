"""Engines that compute a cross-encoder's logits from a graph that was exported, beside torch."""
