"""Losses: pure functions of scores, what they should be, and a mask. One calling convention.

    loss(scores, targets, *, mask, **settings) -> [lists]

`scores` are `[lists, candidates]` logits, `targets` `[lists, candidates]` labels or teacher scores, `mask` is true where a
candidate counts. The result is one value a list, 0 with a gradient of 0 where a list has nothing to compare. The mean over
the lists that do count is the caller's: so a batch can be cut at any place.
"""
