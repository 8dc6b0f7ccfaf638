"""RCIL: its objective is the one of SPEC 5, and a step trains what SPEC 4 lets train."""

import math

import pytest
import torch
from torch import Tensor

from config import OptimConfig
from methods.rcil import RCILConfig
from segmentation_module import SegmentationNet, SegOutput, build_student
from tests.helpers import small_network
from tests.methods import spec_losses as spec
from tests.methods.outputs import FEATURES, batch, check, labels, make, output
from utils.errors import UserError
from utils.optim import build_optimizer


def cube(teacher: SegOutput, student: SegOutput, num_old: int, *, factors: dict[str, tuple[float, float]]) -> dict:
    """Both sums of SPEC 5, without the factor sqrt(n/|C_t|)."""
    a, b = teacher.features, {**student.features}
    b["logits_small"] = spec.folded(b["logits_small"], num_old)
    usual, last = factors["spatial"]
    spatial = [usual * spec.spatial(a[name], b[name]) for name in FEATURES]
    spatial.append(last * spec.spatial(a["logits_small"], b["logits_small"]))
    usual, last = factors["channel"]
    channel = [usual * spec.channel(a[name], b[name]) for name in list(FEATURES)[:4]]
    channel.append(last * spec.channel(a["pre_logits"], b["pre_logits"]))
    return {"cube_spatial": sum(spatial) / 6, "cube_channel": sum(channel) / 5}


@pytest.mark.parametrize(
    ("dataset", "task", "step", "num_old", "num_seen", "usual", "last"),
    [
        ("voc", "15-1", 1, 16, 17, 0.01, 0.0005),
        ("voc", "15-1", 3, 18, 19, 0.01, 0.0005),
        ("voc", "15-5", 1, 16, 21, 0.01, 0.0005),
        ("cityscape", "10-9", 1, 11, 20, 0.01, 0.0005),
        ("ade", "100-50", 1, 101, 151, 5e-6, 5e-7),
    ],
)
def test_the_whole_objective_when_classes_arrive(dataset, task, step, num_old, num_seen, usual, last):
    teacher, student, y = output(num_old, seed=1), output(num_seen, seed=2), labels(num_seen)
    adaptive = math.sqrt(num_seen / (num_seen - num_old))
    cubes = cube(teacher, student, num_old, factors={"spatial": (usual, last), "channel": (usual, last)})
    expected = {
        "ce": spec.unbiased_cross_entropy(student.logits, y, num_old),
        "kd": 100 * spec.unbiased_distillation(student.logits, teacher.logits),
    } | {name: adaptive * value for name, value in cubes.items()}
    check(make("RCIL", dataset, task, step)(batch(y), student, teacher), expected)


@pytest.mark.parametrize(("task", "step"), [("11-5", 1), ("11-1", 4)])
def test_the_whole_objective_when_domains_arrive(task, step):
    teacher, student, y = output(19, seed=1), output(19, seed=2), labels(19)
    expected = {"ce": spec.cross_entropy(student.logits, y)} | cube(
        teacher, student, 19, factors={"spatial": (5e-4, 1e-4), "channel": (1e-4, 0.0)}
    )
    check(make("RCIL", "cityscapes_domain", task, step)(batch(y), student, teacher), expected)


@pytest.mark.parametrize(("dataset", "task", "classes"), [("voc", "15-1", 16), ("cityscapes_domain", "11-5", 19)])
def test_step_0_is_plain_cross_entropy(dataset, task, classes):
    student, y = output(classes, seed=2), labels(classes)
    check(make("RCIL", dataset, task, 0)(batch(y), student, None), {"ce": spec.cross_entropy(student.logits, y)})


def test_each_part_has_its_switch():
    teacher, student, y = output(16, seed=1), output(17, seed=2), labels(17)

    def losses(**options: object) -> dict[str, Tensor]:
        return make("RCIL", **options)(batch(y), student, teacher)

    whole = losses()
    assert "kd" not in losses(loss_kd=0.0)
    assert losses(pod="none").keys() == {"ce", "kd"}
    assert float(losses(loss_kd=50.0)["kd"]) == pytest.approx(float(whole["kd"]) / 2)
    plain = losses(unce=False, unkd=False)
    assert float(plain["ce"]) == pytest.approx(spec.cross_entropy(student.logits, y))
    assert float(plain["kd"]) == pytest.approx(100 * spec.distillation(student.logits, teacher.logits))


def test_without_the_small_logits_the_last_factor_is_that_of_pre_logits():
    teacher, student, y = output(16, seed=1), output(17, seed=2), labels(17)
    maps = [spec.spatial(teacher.features[name], student.features[name], (3, 4)) for name in FEATURES]
    expected = math.sqrt(17) * (2 * sum(maps[:-1]) + 7 * maps[-1]) / 5
    options = {"pod_logits": False, "spatial_factors": (2.0, 7.0), "pool_sizes": (3, 4)}
    losses = make("RCIL", **options)(batch(y), student, teacher)
    assert float(losses["cube_spatial"]) == pytest.approx(expected, rel=1e-10)


def test_distillation_changes_no_feature_that_a_caller_holds():
    teacher, student, y = output(16, seed=1), output(17, seed=2), labels(17)
    make("RCIL")(batch(y), student, teacher)
    for now, before in ((teacher, output(16, seed=1)), (student, output(17, seed=2))):
        assert torch.equal(now.logits, before.logits) and now.features.keys() == before.features.keys()
        assert all(torch.equal(now.features[name], before.features[name]) for name in before.features)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spatial_factors": (0.1,)}, "--spatial_factors"),
        ({"channel_factors": (1.0, 2.0, 3.0)}, "--channel_factors"),
        ({"pool_sizes": ()}, "--pool_sizes"),
        ({"pool_sizes": (4, 0)}, "--pool_sizes"),
        ({"pod": "all"}, "choose from cube, local, none"),
        ({"spp_scales": ()}, "--spp_scales"),
        ({"branches": 3}, "choose from 1, 2"),
    ],
)
def test_values_out_of_range_are_refused(options: dict, words: str):
    with pytest.raises(UserError, match=words):
        RCILConfig(**options)


def copy_state(network: SegmentationNet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def is_frozen(name: str) -> bool:
    """Whether SPEC 4 freezes the weight of that name in steps >= 1: the merged convolutions."""
    return ".conv2.conv." in name or (name.startswith("head.atrous.") and ".conv." in name)


def test_one_iteration_of_step_1_changes_what_spec_4_lets_train_and_nothing_else():
    previous = small_network(classes_per_head=(16,))
    teacher = previous.merged()
    student, rcil = build_student(previous, new_classes=1), make("RCIL")
    rcil.shape(student, previous)
    rcil.initialise(student, previous)
    optimizer = build_optimizer(rcil.groups(student), OptimConfig(weight_decay=0.01), lr=0.1)
    before, before_teacher = copy_state(student), copy_state(teacher)

    images = torch.randn(2, 3, 48, 48)
    y = labels(17).repeat_interleave(4, 1).repeat_interleave(6, 2)
    student.train()
    sum(rcil(batch(y), student(images), teacher(images)).values()).backward()
    optimizer.step()

    after = copy_state(student)
    assert after.keys() == before.keys() and "classifiers.1.weight" in after
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if not is_frozen(name)}
    assert all(torch.equal(tensor, before_teacher[name]) for name, tensor in copy_state(teacher).items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters()) and not teacher.training


def test_what_is_frozen_is_what_both_branches_learnt_and_a_second_shape_changes_nothing():
    """A resumed step is given its shape anew, before its weights are loaded."""
    previous = small_network(classes_per_head=(16,))
    student, rcil = build_student(previous, new_classes=1), make("RCIL")
    for _ in range(2):
        rcil.shape(student, previous)
        merged = previous.merged()
        assert student.form == "frozen" and previous.form == "dual"
        for site, single in zip(student.sites(), merged.sites(), strict=True):
            assert torch.equal(site.conv.weight, single.conv.weight) and torch.equal(site.conv.bias, single.conv.bias)


def test_step_0_and_plain_networks_train_everything():
    network = small_network(classes_per_head=(16,))
    make("RCIL", step=0).shape(network, None)
    assert network.form == "dual" and all(parameter.requires_grad for parameter in network.parameters())
    plain = small_network(branches=1, classes_per_head=(16, 1))
    make("RCIL", branches=1).shape(plain, small_network(branches=1, classes_per_head=(16,)))
    assert plain.form == "plain" and all(parameter.requires_grad for parameter in plain.parameters())
