"""Guidance before training: tables of facts and what follows from them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from secondstage.config import TrainConfig
from secondstage.train.advice import Data, advise, propose
from secondstage.train.size import Size, weight_bytes

# MiniLM-L6 on a collection like feedbackqa.
DATA = Data(lists=5000, labelled=5000, positives=6000, pairs=40_000, tokens=4_000_000, dev_queries=100, documents=3000)
MODEL = Size(
    parameters=22_700_000,
    trained=22_700_000,
    embeddings=11_700_000,
    layers=6,
    hidden=384,
    heads=12,
    new_head=True,
    half=True,
    memory=16 << 30,
)


def config(**settings: Any) -> TrainConfig:
    return TrainConfig.model_validate({"epochs": 1.0} | settings)


def value(data: Data, model: Size, key: str, **settings: Any) -> object:
    found = propose(data, model, config(**settings)).get(key)
    assert found is None or found.reason
    return None if found is None else found.value


@pytest.mark.parametrize(
    ("lists", "epochs"),
    [
        (1, 8.0),
        (721, 8.0),
        (1250, 8.0),
        (2000, 5.0),
        (5000, 2.0),
        (9000, 1.0),
        (10_000, 1.0),
        (1_000_000, 1.0),
        (0, 8.0),
    ],
)
def test_many_queries_need_one_pass_and_few_need_several(lists: int, epochs: float) -> None:
    assert value(DATA._replace(lists=lists), MODEL, "epochs") == epochs


@pytest.mark.parametrize(
    ("parameters", "new_head", "lora", "rate"),
    [
        (22_700_000, True, None, 1e-4),
        (150_000_000, True, None, 5e-5),
        (600_000_000, True, None, 2e-5),
        (22_700_000, False, None, 2e-5),
        (600_000_000, False, {"rank": 8}, 1e-4),
    ],
)
def test_the_learning_rate_falls_with_size_and_for_trained_rerankers(
    parameters: int, new_head: bool, lora: dict[str, int] | None, rate: float
) -> None:
    model = MODEL._replace(parameters=parameters, new_head=new_head)
    assert value(DATA, model, "learning_rate", lora=lora) == rate


def test_a_student_that_is_cut_from_a_reranker_is_not_moved_little() -> None:
    reranker = MODEL._replace(parameters=17_000_000, new_head=False)
    assert value(DATA, reranker, "learning_rate") == 2e-5
    assert value(DATA, reranker, "learning_rate", student={"layers": 3}) == 3e-4
    larger = MODEL._replace(parameters=150_000_000, new_head=False)
    assert value(DATA, larger, "learning_rate", student={"layers": 3}) == 5e-5


@pytest.mark.parametrize(
    ("pairs", "dev_queries", "evaluations", "patience"),
    [
        # Two epochs of 40,000 pairs, thrice the cost of scoring: a tenth is 24,000 pairs, eight times a dev of 3,000.
        (40_000, 100, 8, 3),
        (4_000, 100, 3, None),
        (4_000_000, 100, 10, 3),
        (25_000, 100, 5, None),
        (40_000, 0, None, None),
    ],
)
def test_evaluations_take_a_tenth_of_the_time(
    pairs: int, dev_queries: int, evaluations: int | None, patience: int | None
) -> None:
    data = DATA._replace(pairs=pairs, dev_queries=dev_queries)
    assert value(data, MODEL, "evaluations") == evaluations
    assert value(data, MODEL, "patience") == patience


@pytest.mark.parametrize(
    ("lists", "dev_queries", "folds"),
    [(300, 20, 5), (300, 0, 5), (300, 50, None), (1000, 20, None), (49, 20, None)],
)
def test_folds_are_for_few_labels_and_little_dev(lists: int, dev_queries: int, folds: int | None) -> None:
    data = DATA._replace(labelled=lists, dev_queries=dev_queries)
    assert value(data, MODEL, "folds") == folds
    # They are decided, and with them when to evaluate.
    decided = propose(data, MODEL, TrainConfig(steps=1000, folds=3))
    assert not {"folds", "evaluations", "patience"} & decided.keys()


@pytest.mark.parametrize(
    ("lists", "tokens", "batch_tokens"),
    [
        (5000, 4_000_000, None),
        (100, 80_000, 4096),  # 8 epochs: 640,000 tokens, 100 steps of 6,400
        (20, 16_000, 1024),
        (100, 102_400, None),  # 819,200 tokens: 100 steps of 8,192
    ],
)
def test_few_lists_make_a_hundred_steps_all_the_same(lists: int, tokens: int, batch_tokens: int | None) -> None:
    data = DATA._replace(lists=lists, tokens=tokens)
    assert value(data, MODEL, "batch_tokens", batch_tokens=8192) == batch_tokens


def test_processes_share_a_step_and_spread_weights() -> None:
    """Each of four keeps a quarter of the activations; where weights are spread, a quarter of them, too."""
    kinds = [MODEL._replace(processes=n, spread=s) for n, s in ((1, True), (4, False), (4, True))]
    said = [advise(DATA, kind, config(batch_tokens=8192))[0] for kind in kinds]
    quarter = advise(DATA, MODEL, config(batch_tokens=2048))[0]
    assert said[1] == quarter != said[0] != said[2] != quarter
    assert weight_bytes(MODEL._replace(processes=4, spread=True)) == weight_bytes(MODEL) // 4
    # A quarter of the room is enough for all that is proposed.
    assert value(DATA, MODEL._replace(memory=1 << 30), "memory_tokens", batch_tokens=8192) is not None
    assert value(DATA, MODEL._replace(memory=1 << 30, processes=8), "memory_tokens", batch_tokens=8192) is None


def test_what_memory_does_not_hold_is_computed_again() -> None:
    """Activations of MiniLM: about 88 kB a token of 100. Weights and optimizer: 454 MB."""
    keys = ("memory_tokens", "gradient_checkpointing", "freeze_embeddings")

    def found(gib: float, **settings: Any) -> tuple[object, ...]:
        proposed = propose(DATA, MODEL._replace(memory=int(gib * 2**30)), config(batch_tokens=8192, **settings))
        return tuple(proposed[key].value if key in proposed else None for key in keys)

    assert found(16) == found(0) == (None, None, None)
    # 1.4 GB usable, 0.45 of it for weights: 12,000 tokens.
    assert found(2) == (None, None, None)
    # 0.75 GB usable: weights take more than half. Without the embeddings 0.46 GB are left: 5,000 tokens.
    assert found(1) == (4096, None, True)
    assert found(1, freeze_embeddings=True)[2] is None
    # 0.38 GB usable: 0.09 GB are left, not enough for 1,024 tokens; at 19 kB a token, for 4,400.
    assert found(0.5) == (4096, True, True)


def test_proposals_are_valid_values_of_their_keys() -> None:
    sizes = itertools.product((20, 300, 5000, 10**6), (0, 20, 1000), (0, 1 << 28, 1 << 34), (True, False))
    for lists, dev, memory, new in sizes:
        data = DATA._replace(lists=lists, pairs=8 * lists, tokens=800 * lists, dev_queries=dev)
        model = MODEL._replace(memory=memory, new_head=new)
        found = propose(data, model, config())
        assert "epochs" in found
        TrainConfig.model_validate({name: proposal.value for name, proposal in found.items()})
        assert found == propose(data, model, config())


def test_the_advice_as_a_whole() -> None:
    few = DATA._replace(lists=700, labelled=700, pairs=5600, tokens=560_000, dev_queries=40)
    lines = advise(few, MODEL, config(epochs=1.0, batch_tokens=4096), seconds_per_token=3e-4)
    assert lines[0] == (
        "700 lists with 6,000 positives; an epoch has 5,600 pairs and 560,000 tokens; training takes about 0.8 GiB for "
        "weights and activations, an epoch about 2.8 minutes on this machine"
    )
    assert [line.partition(":")[0] for line in lines[1:]] == ["proposed"] * len(lines[1:])
    typed = [line.split()[1].rstrip(":") for line in lines[1:]]
    assert typed == [
        "train.epochs=8",
        "train.evaluations=10",
        "train.patience=3",
        "train.folds=5",
        "warmup.minutes=5",
    ]


@pytest.mark.parametrize(
    ("seconds_per_token", "settings", "proposed"),
    [
        (1e-4, {}, 3),  # 400 s an epoch, of which 240 are decided
        (5e-5, {}, None),
        (1e-4, {"negatives": 3}, None),
        (1e-4, {"loss": "kl"}, None),  # a teacher's order of more candidates tells more
    ],
)
def test_where_there_is_no_time_for_all_queries_fewer_negatives_are_proposed(
    seconds_per_token: float, settings: dict[str, Any], proposed: int | None
) -> None:
    brief = TrainConfig.from_json({"minutes": 4.0, **settings})
    found = propose(DATA, MODEL, brief, seconds_per_token=seconds_per_token).get("negatives")
    assert (found.value if found else None) == proposed
    if found:
        assert "passes over 60% of the lists" in found.reason


def test_a_budget_that_was_decided_is_not_argued_with() -> None:
    for budget in ({"minutes": 4.0, "epochs": None}, {"steps": 100, "epochs": None}):
        lines = advise(DATA, MODEL, TrainConfig.model_validate(budget))
        assert not any("train.epochs" in line for line in lines)
        assert "on this machine" not in lines[0]


@pytest.mark.parametrize(
    ("budget", "evaluations", "patience"),
    [
        # An epoch takes twenty minutes and 490 steps; a tenth of it pays for four evaluations.
        ({"minutes": 4.0}, 3, None),
        ({"minutes": 30.0}, 6, 3),
        ({"steps": 100}, 3, None),
        ({"steps": 5000}, 10, 3),
        ({"epochs": 1.0}, 8, 3),  # two are proposed
    ],
)
def test_the_recipe_is_for_the_budget_that_was_decided(
    budget: dict[str, float], evaluations: int, patience: int | None
) -> None:
    found = propose(DATA, MODEL, TrainConfig.model_validate(budget), seconds_per_token=1200 / DATA.tokens)
    assert found["evaluations"].value == evaluations
    assert (found["patience"].value if "patience" in found else None) == patience


def test_smaller_batches_make_no_more_of_the_steps_that_were_decided() -> None:
    few = DATA._replace(lists=100, tokens=80_000)
    for budget in ({"steps": 500}, {"steps": 50}, {"replay": "runs/before"}):
        assert "batch_tokens" not in propose(few, MODEL, TrainConfig.model_validate(budget))
    minutes = propose(few, MODEL, TrainConfig(minutes=4.0), seconds_per_token=1e-3)
    assert minutes["batch_tokens"].reason.startswith("8,192 make 30 steps only")


def test_what_the_config_says_already_is_not_proposed() -> None:
    settings = {name: found.value for name, found in propose(DATA, MODEL, config()).items()}
    assert not [
        line for line in advise(DATA, MODEL, TrainConfig.model_validate(settings)) if line.startswith("proposed")
    ]
