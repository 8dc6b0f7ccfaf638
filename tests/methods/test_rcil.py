"""RCIL: its objective is the one of SPEC 5, and a step trains what SPEC 4 lets train."""

import math
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from config import ModelConfig, OptimConfig
from methods.features import feature_preset
from methods.rcil import RCIL, RCILConfig
from modules.public_names import to_public
from segmentation_module import SegmentationNet, SegOutput, build_network, build_student
from tasks import Task
from tests.helpers import task_of
from tests.methods import spec_losses as spec
from tests.methods.outputs import FEATURES, labels, output
from utils.errors import UserError
from utils.optim import build_optimizer


def method(task: Task, step: int, **options: object) -> RCIL:
    """RCIL with the preset of the task's data set, as argparser makes it."""
    names = {spec.name for spec in fields(RCILConfig)}
    published = feature_preset("cube", task.dataset, task.name) | RCIL.preset(task.dataset, task)
    preset = {name: value for name, value in published.items() if name in names}
    return RCIL(RCILConfig(**preset | options), task, step)


def check(losses: dict[str, Tensor], expected: dict[str, float]) -> None:
    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-10), name


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
    check(method(task_of(dataset, task), step).losses(student, teacher, y), expected)


@pytest.mark.parametrize(("task", "step"), [("11-5", 1), ("11-1", 4)])
def test_the_whole_objective_when_domains_arrive(task, step):
    teacher, student, y = output(19, seed=1), output(19, seed=2), labels(19)
    expected = {"ce": spec.cross_entropy(student.logits, y)} | cube(
        teacher, student, 19, factors={"spatial": (5e-4, 1e-4), "channel": (1e-4, 0.0)}
    )
    check(method(task_of("cityscapes_domain", task), step).losses(student, teacher, y), expected)


@pytest.mark.parametrize(("dataset", "task", "classes"), [("voc", "15-1", 16), ("cityscapes_domain", "11-5", 19)])
def test_step_0_is_plain_cross_entropy(dataset, task, classes):
    student, y = output(classes, seed=2), labels(classes)
    expected = {"ce": spec.cross_entropy(student.logits, y)}
    check(method(task_of(dataset, task), 0).losses(student, None, y), expected)


def test_each_part_has_its_switch():
    task, teacher, student, y = task_of("voc", "15-1"), output(16, seed=1), output(17, seed=2), labels(17)
    whole = method(task, 1).losses(student, teacher, y)
    assert "kd" not in method(task, 1, loss_kd=0.0).losses(student, teacher, y)
    assert method(task, 1, pod="none").losses(student, teacher, y).keys() == {"ce", "kd"}
    halved = method(task, 1, loss_kd=50.0).losses(student, teacher, y)
    assert float(halved["kd"]) == pytest.approx(float(whole["kd"]) / 2)
    plain = method(task, 1, unce=False, unkd=False).losses(student, teacher, y)
    assert float(plain["ce"]) == pytest.approx(spec.cross_entropy(student.logits, y))
    assert float(plain["kd"]) == pytest.approx(100 * spec.distillation(student.logits, teacher.logits))


def test_without_the_small_logits_the_last_factor_is_that_of_pre_logits():
    teacher, student, y = output(16, seed=1), output(17, seed=2), labels(17)
    maps = [spec.spatial(teacher.features[name], student.features[name], (3, 4)) for name in FEATURES]
    expected = math.sqrt(17) * (2 * sum(maps[:-1]) + 7 * maps[-1]) / 5
    options = {"pod_logits": False, "spatial_factors": (2.0, 7.0), "pool_sizes": (3, 4)}
    losses = method(task_of("voc", "15-1"), 1, **options).losses(student, teacher, y)
    assert float(losses["cube_spatial"]) == pytest.approx(expected, rel=1e-10)


def test_distillation_changes_no_feature_that_a_caller_holds():
    teacher, student, y = output(16, seed=1), output(17, seed=2), labels(17)
    method(task_of("voc", "15-1"), 1).losses(student, teacher, y)
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


def network_of_step_0() -> SegmentationNet:
    """A small RC network with statistics that are not those of the start."""
    torch.manual_seed(0)
    config = ModelConfig(backbone="resnet26", width=4, head_channels=4, no_pretrained=True)
    network = build_network(config, branches=2, classes_per_head=(16,))
    for tensor in network.state_dict().values():
        tensor.add_(0.1 * torch.rand_like(tensor))
    return network


def public_state(network: SegmentationNet) -> dict[str, Tensor]:
    return {name.removeprefix("module."): t.clone() for name, t in to_public(network.state_dict()).items()}


def is_frozen(name: str) -> bool:
    """Whether SPEC 4 freezes the weight of that name in steps >= 1: the merged convolutions and their norms."""
    return any(f"{part}." in name for part in ("convs.conv2", "convs.bn2", "head.map_convs", "head.map_bn"))


def test_one_iteration_of_step_1_changes_what_spec_4_lets_train_and_nothing_else():
    task, previous = task_of("voc", "15-1"), network_of_step_0()
    teacher = previous.merged()
    student = build_student(previous, new_classes=1, init_weights=True, init_bias=False)
    rcil = method(task, 1)
    rcil.prepare(student)
    optimizer = build_optimizer(student.parameter_groups(), OptimConfig(weight_decay=0.01), lr=0.1)
    before, before_teacher = public_state(student), public_state(teacher)

    images = torch.randn(2, 3, 48, 48)
    y = labels(17).repeat_interleave(4, 1).repeat_interleave(6, 2)
    student.train()
    sum(rcil.losses(student(images), teacher(images), y).values()).backward()
    optimizer.step()

    after = public_state(student)
    assert after.keys() == before.keys() and "cls.1.weight" in after
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if not is_frozen(name)}
    assert all(torch.equal(tensor, before_teacher[name]) for name, tensor in public_state(teacher).items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters()) and not teacher.training


def test_step_0_and_plain_networks_train_everything():
    task = task_of("voc", "15-1")
    network = network_of_step_0()
    method(task, 0).prepare(network)
    assert network.form == "dual" and all(parameter.requires_grad for parameter in network.parameters())
    config = ModelConfig(backbone="resnet26", width=4, head_channels=4, no_pretrained=True)
    network = build_network(config, branches=1, classes_per_head=(16, 1))
    method(task, 1, branches=1).prepare(network)
    assert network.form == "plain" and all(parameter.requires_grad for parameter in network.parameters())
