"""What may be wrong with a training: pure functions from a few numbers to words with a next step, or to none.

All of them return an empty text where nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

# Below this, the softmax over a list differs from the uniform one by one percent at most.
EQUAL_SCORES = 0.01
# Half precision has eight bits of mantissa: at such a size, neighbouring scores differ by a quarter.
HUGE_SCORES = 32.0
# A loss that is above this share of a constant scorer's has learnt nothing.
UNMOVED = 0.98
# Times the largest norm that is let through.
FAR = 50


def collapsed(spreads: Sequence[float]) -> str:
    """Whether all candidates of a list get nearly the same score.

    Args:
        spreads: of each step, the median over its lists of the largest minus the smallest score.
    """
    if not spreads or max(spreads) >= EQUAL_SCORES:
        return ""
    return (
        f"collapsed scores: for {len(spreads)} steps, all candidates of a list have had the same score but for "
        f"{max(spreads):.2g}: lower train.learning_rate, train for longer, or see whether positives and negatives can "
        "be told apart at all within train.max_length"
    )


def saturated(sizes: Sequence[float]) -> str:
    """Whether scores are so large that gradients vanish and half precision cannot tell candidates apart.

    Args:
        sizes: of each step, the median over its lists of the largest absolute score.
    """
    if not sizes or min(sizes) <= HUGE_SCORES:
        return ""
    return (
        f"saturated scores: for {len(sizes)} steps they have been as large as {median(sizes):.0f}: lower "
        "train.learning_rate or train for a shorter time; with a loss on a teacher's scores, look at its scale"
    )


def unmoved(last: Sequence[float], constants: Sequence[float]) -> str:
    """Whether the loss is still that of knowing nothing.

    Args:
        last: losses of the last steps.
        constants: what a scorer that gives every candidate the same score would have lost at these, e.g. the logarithm
            of the list's length for LCE.
    """
    if not last or fmean(last) < UNMOVED * fmean(constants):
        return ""
    return (
        f"the loss does not move: {fmean(last):.3f}, no better than the {fmean(constants):.3f} of one and the same "
        "score for every candidate: raise train.learning_rate or the budget, or look at the labels (mine/audit.html): "
        "negatives may be as good as the positives"
    )


def clipped(norms: Sequence[float], clip: float) -> str:
    """Whether every gradient is so far above the largest norm let through that only its direction counts.

    Norms of ten times as much are the rule: sound trainings of a MiniLM with a new head have a median of 10 to 12 at a
    clip of 1, and AdamW makes up for a constant factor.

    Args:
        norms: of the last steps, before clipping.
        clip: the largest norm that is let through.
    """
    if not norms or min(norms) <= FAR * clip:
        return ""
    return (
        f"every gradient is far above train.clip={clip:g}: its norm is {median(norms):.3g} as a rule: lower "
        "train.learning_rate; with a loss on a teacher's scores, look at its scale"
    )


def below(value: float, first_stage: float, queries: int) -> str:
    """Whether reranking made dev worse."""
    if not queries or value >= first_stage:
        return ""
    return (
        f"dev nDCG@10 of the reranker, {value:.4f}, is below the first stage's {first_stage:.4f} ({queries} queries): "
        "fused with it, it may help all the same, which serve finds out; else train for longer, mine harder negatives, "
        "add labels or synthetic queries, or start from a reranker"
    )


def worse_teacher(teacher: float, first_stage: float, error: float, lists: int) -> str:
    """Whether the teacher orders the candidates of labelled lists worse than the first stage does.

    Args:
        teacher: nDCG@10, the mean over these lists.
        first_stage: the same.
        error: the standard error of the mean difference.
        lists: how many they are; 0 if none can be compared.
    """
    if not lists or teacher >= first_stage - 2 * error:
        return ""
    return (
        f"the teacher orders the candidates of {lists} labelled lists worse than the first stage does: nDCG@10 "
        f"{teacher:.4f} against {first_stage:.4f}; who learns from it learns its mistakes: take another teacher, or "
        "learn from the labels alone (the loss lce, and no distill)"
    )


def random_order(value: float, chance: float, error: float) -> str:
    """Whether dev is ordered no better than at random: a head that was never trained does that.

    Args:
        value: of the reranked lists.
        chance: the mean value of the same lists in random order.
        error: the standard error of `chance` for one random order.
    """
    if value > chance + 2 * error or error == 0:  # lists of one candidate have one order
        return ""
    return (
        f"the reranker orders dev as chance does: nDCG@10 {value:.4f}, at random {chance:.4f}: its head was never "
        "trained, or training has undone it: start from a trained reranker, train for longer, or lower "
        "train.learning_rate"
    )
