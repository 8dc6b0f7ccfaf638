"""The command line: what users' scripts type today is understood, and what is not meant for a run is refused."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

from argparser import Parsed, build_parser, parse
from config import DataConfig, ModelConfig, OptimConfig, RunConfig, option_fields
from dataset import DATASETS
from methods import METHODS, configs_of
from modules.backbones import BACKBONES
from utils.errors import UserError

# SPEC 9: options that users' scripts carry, and the new ones, each with a value where it takes one.
OPTIONS = {
    "run": "--date 2022-01-01 --name a --step 0|--step 1 2|--step all|--lr 0.1|--lr 0.1 0.2|--epochs 3|--epochs 3 4"
    "|--batch_size 6|--crop_size 64|--method RCIL|--opt_level O1|--checkpoint a|--step_ckpt a.pth|--ckpt a.pth --step 0"
    "|--test|--num_workers 0|--random_seed 1|--logdir a|--sample_num 0|--visualize|--no_visualize|--debug"
    "|--latex|--wandb|--print_interval 1|--val_interval 1|--ckpt_interval 1|--resume|--no-resume|--results_dir a",
    "data": "--data_root a|--dataset voc|--task 15-1|--overlap|--data_masking current+old|--crop_val|--no_crop_val"
    "|--test_on_val|--val_on_trainset|--cross_val|--ignore_test_bg|--scenario disjoint|--scenario partitioned"
    "|--label_protocol mib|--overlap --scenario overlapped|--no_overlap|--dataset ade --task 50"
    "|--dataset cityscape --task 10-9"
    "|--dataset cityscapes_domain --task 11-1 --domain_test clean",
    "model": "--backbone resnet50|--output_stride 8|--no_pretrained|--norm_act abn|--pooling 16|--freeze|--fix_bn"
    "|--width 32|--head_channels 64|--head concat|--drop_path|--no_drop_path|--pretrained a.pth|--stem_activation",
    "optimiser": "--lr_old 0.1|--momentum 0|--weight_decay 0|--lr_policy step|--lr_power 1|--lr_decay_step 7"
    "|--lr_decay_factor 0.5|--warmup 3|--warmup_share 0.2",
    "RCIL": "--loss_kd 10|--unce|--no_unce|--unkd|--init_balanced|--pod cube|--pod local|--pod none|--pod_factor 0.1"
    "|--pod_options {}|--pod_logits|--no_pod_logits|--classif_adaptive_factor|--init_bias|--branches 2"
    "|--pool_sizes 2 4|--spatial_factors 0.1 0.2|--channel_factors 0.1 0.2",
    "methods": "--method LWF --alpha 2|--method ILT --loss_de 10|--method EWC --reg_importance 500 --reg_alpha 0.5"
    "|--method PI --reg_no_normalize|--method RW --reg_iterations 5|--method FT --regularizer ewc"
    "|--method MiB --no-unkd|--method PLOP --paper_exact"
    "|--method LWF-MC --bce --icarl --icarl_importance 5 --icarl_disjoint --icarl_bkg"
    "|--method PLOP --pseudo entropy --threshold 0.1 --step_threshold 0.1 --pseudo_nb_bins 50|--method FT --pod cube"
    "|--method PLOP --classif_adaptive_factor --classif_adaptive_min_factor 0.1|--method MiB --branches 2 --pod local"
    "|--method PLOP --pod local --pod_factor 0.1 --pod_prepro pow --no_pod_schedule --pod_logits --spp_scales 1 2"
    '|--method PLOP --pod_options {"switch":{"after":{"extra_channels":"sum","factor":0.0005,"type":"local"}}}',
    "launchers": "--local_rank=0|--local-rank=1|--local_rank 0|--local-rank 1",
}

AUTHORS = (
    "--date 2022-01-01 --data_root X --overlap --batch_size 6 --dataset voc --name RCIL --task 15-5s --step 0 "
    "--lr 0.02 --epochs 30 --opt_level O1"
)
AUTHORS_POD = (
    "--pod local --pod_factor 0.01 --pod_logits --unce --unkd --loss_kd 100 --classif_adaptive_factor --init_balanced"
)


def read(line: str) -> Parsed:
    return parse(line.split())


def numbers(parsed: Parsed) -> list[int]:
    return [step.number for step in parsed.steps]


@pytest.mark.parametrize("group", OPTIONS)
def test_every_option_of_the_spec_is_accepted(group: str):
    for line in OPTIONS[group].split("|"):
        read(line)


COMMON = {spec.name for config in (RunConfig, DataConfig, ModelConfig, OptimConfig) for spec in option_fields(config)}


def test_every_field_is_an_option_and_the_help_has_those_of_the_method_alone():
    parser = build_parser()
    known = {option for action in parser._actions for option in action.option_strings}
    configs = {typed: config for name in METHODS for typed, config in configs_of(name).items()}
    fields = {typed: {spec.name for spec in option_fields(config)} for typed, config in configs.items()}
    everything = COMMON.union(*fields.values()) - {"method_name"} | {"method"}
    assert {f"--{name}" for name in everything} <= known
    for method, own in fields.items():
        text = build_parser(*method.split(" --base ")).format_help()
        shown = set(re.findall(r"^  --(\w+)", text, re.MULTILINE)) - {"version", "config"}
        assert shown == (COMMON - {"method_name"} | {"method"} | own), method


def help_of(line: str, capsys: pytest.CaptureFixture) -> tuple[list[str], dict[str, str], str]:
    """Titles of the groups that `line --help` shows, what it says of each option, and all of it as one line."""
    with pytest.raises(SystemExit) as caught:
        read(f"{line} --help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    titles = re.findall(r"^([a-z][\w -]*):$", text, re.MULTILINE)
    options = {
        name: " ".join(said.split()) for name, said in re.findall(r"^  --(\w+)(.*(?:\n {3,}.*)*)", text, re.MULTILINE)
    }
    return titles, options, " ".join(text.split())


@pytest.mark.parametrize(
    ("line", "defaults"),
    [
        ("", ["lr [0.02 0.001]", "epochs [30]", "branches [2]", "loss_kd [100.0]", "spatial_factors [0.01 0.0005]"]),
        ("--dataset ade", ["lr [0.01 0.001]", "epochs [60]", "spatial_factors [5e-06 5e-07]"]),
        ("--method EWC", ["reg_importance [100.0]", "reg_alpha [0.9]", "lr [0.01 0.001]", "branches [1]"]),
        ("--method PLOP", ["pod [local]", "pod_factor [0.01]", "init_bias [on]", "pseudo [entropy]"]),
        ("--method=PLOP --dataset ade", ["pod_factor [0.001]", "pod_logits_factor [1e-05]"]),
        ("--dataset ade --method MiB --pod cube", ["spatial_factors [5e-06 5e-07]", "lr [0.01 0.001]"]),
        ("--method EWF --dataset ade --task 100-5", ["base [MiB]", "loss_kd [100.0]", "epochs [60]", "pod [none]"]),
        ("--method EWF --base PLOP", ["base [PLOP]", "pod [local]", "pseudo [entropy]", "pod_factor [0.01]"]),
        ("--base=PLOP --dataset ade --method UCD", ["pod_factor [0.001]", "loss_ucd [0.01]", "ucd_anchors [2048]"]),
        ("--method RCIL --dataset cityscapes_domain --task 11-1", ["lr [0.02 0.004]", "loss_kd [0.0]"]),
    ],
)
def test_the_help_shows_the_defaults_of_method_and_data_set(line: str, defaults: list[str], capsys):
    config = read(line).config
    method = " --base ".join([config.method_name, *filter(None, [getattr(config.method, "base", None)])])
    titles, options, text = help_of(line, capsys)
    of_groups = [f"method {method}", "every method", "run", "data", "network", "optimiser"]
    assert titles == ["options", *of_groups]
    for default in defaults:
        name, value = default.split(" ", 1)
        assert options[name].endswith(f" {value}"), options[name]
    # What the method has for itself, or has otherwise, stands in its own group.
    own = text.split(f" method {method}: ")[1].split(" every method: ")[0]
    assert ("--reg_importance" in own) == (method == "EWC") and ("--branches" in own) == (method == "RCIL")


def test_a_switch_has_one_spelling_that_is_shown_and_one_that_is_not(capsys: pytest.CaptureFixture):
    *_, text = help_of("", capsys)
    assert "--crop_val, --no_crop_val" in text and "--no-" not in text
    for line in ("--no_crop_val", "--no-crop_val"):
        assert read(line).config.data.crop_val is False
    for line in ("--no_pretrained", "--no-pretrained"):
        assert read(line).config.model.no_pretrained is True


def test_what_is_typed_arrives_in_its_configuration():
    config = read(
        "--data_root D --task 10-1 --overlap --no_crop_val --width 16 --output_stride 8 --momentum 0.5 --name N "
        "--ckpt_interval 7 --checkpoint C --loss_kd 3 --pool_sizes 2 4 --no_drop_path --lr 0.5 --epochs 9"
    ).config
    assert (config.data.data_root, config.data.task, config.data.overlap) == (Path("D"), "10-1", True)
    assert config.data.crop_val is False and config.model.drop_path is False
    assert (config.model.width, config.model.output_stride, config.optim.momentum) == (16, 8, 0.5)
    assert (config.name, config.ckpt_interval, config.checkpoint) == ("N", 7, Path("C"))
    assert (config.method.loss_kd, config.method.pool_sizes) == (3.0, (2, 4))
    assert set(config.optim.lr) == {0.5} and set(config.optim.epochs) == {9}


def test_the_authors_line_for_the_first_step():
    parsed = read(f"{AUTHORS} --method RCIL")
    config = parsed.config
    assert (config.method_name, parsed.task.name, numbers(parsed)) == ("RCIL", "15-1", [0])
    assert (config.data.batch_size, config.data.overlap, config.opt_level) == (6, True, "O1")
    assert (config.optim.lr, config.optim.epochs) == ((0.02,), (30,))
    assert config.method == METHODS["RCIL"].Config()


@pytest.mark.parametrize("rank", ["--local_rank=0", "--local-rank 0", "--local_rank 1"])
def test_the_authors_line_for_the_later_steps(rank: str):
    parsed = read(f"{rank} {AUTHORS} --method RCIL --step 1 2 3 4 5 --lr 0.001")
    assert numbers(parsed) == [1, 2, 3, 4, 5] and set(parsed.config.optim.lr) == {0.001}
    assert parsed.local_rank == int(rank[-1])


def test_without_a_launcher_there_is_no_local_rank():
    assert read("").local_rank is None


@pytest.mark.parametrize("method", ["RCIL", "FT"])
def test_the_authors_spelling_of_rcil(method: str):
    words = [*f"{AUTHORS} --method {method} {AUTHORS_POD}".split(), "--pod_options", '{"switch": {}}']
    parsed = parse(words)
    assert parsed.config.method_name == "RCIL" and parsed.config.method == METHODS["RCIL"].Config()
    notes = "\n".join(parsed.provenance.notes)
    assert all(f"--{name}" in notes for name in ("pod local", "pod_factor", "pod_options", "classif_adaptive_factor"))


def test_a_preset_fills_what_is_not_typed_and_yields_to_what_is():
    parsed = read("--method RCIL --epochs 5 --loss_kd 7")
    factors = {"spatial_factors": (0.01, 0.0005), "channel_factors": (0.01, 0.0005)}
    assert parsed.provenance.preset == {"lr": (0.02, 0.001)} | factors and parsed.config.optim.lr == (0.02, 0.001)
    assert parsed.provenance.typed["loss_kd"] == parsed.config.method.loss_kd == 7
    assert "epochs" in parsed.provenance.typed and set(parsed.config.optim.epochs) == {5}
    assert read("--method FT").config.optim.lr == (0.01, 0.001)


def test_what_nobody_typed_is_in_no_list_of_typed_options():
    provenance = read("--name N").provenance
    assert provenance.typed == {"name": "N"} and provenance.notes == []


@pytest.mark.parametrize(
    ("line", "steps", "rates"),
    [
        ("--step 0 --lr 0.1", (0,), {0: 0.1}),
        ("--step 0 1 2 --lr 0.1 0.2", (0, 1, 2), {0: 0.1, 1: 0.2, 2: 0.2}),
        ("--step 2 4 --lr 0.1 0.2", (2, 4), {2: 0.1, 4: 0.2}),
        ("--step 3 --lr 0.1", (3,), {3: 0.1}),
        ("--step all --lr 0.1 0.2", (0, 1, 2, 3, 4, 5), {0: 0.1, 1: 0.2, 5: 0.2}),
        ("--lr 0.1 0.2 0.3", (0, 1, 2, 3, 4, 5), {0: 0.1, 1: 0.2, 2: 0.3, 5: 0.3}),
        ("--task offline --lr 0.1", (0,), {0: 0.1}),
    ],
)
def test_rates_go_by_the_steps_that_run(line: str, steps: tuple, rates: dict):
    parsed = read(line)
    assert tuple(numbers(parsed)) == steps
    lr = parsed.config.optim.lr
    assert {step: lr[min(step, len(lr) - 1)] for step in rates} == rates


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--overlapp", "unknown option --overlapp; the nearest is --overlap "),
        ("--learning_rate 0.1", "unknown option --learning_rate; the nearest is --"),
        ("--bathc_size=3", "the nearest is --batch_size "),
        ("--over", "unknown option --over; the nearest is --overlap "),
        ("15-1", "unexpected argument '15-1'"),
        ("--task 15-2", "--task 15-2: .*possible"),
        ("--task 15", "--task 15: .*X-Y"),
        ("--dataset pascal", "--dataset pascal: choose from .*voc"),
        ("--method LWF2", "--method LWF2: choose from FT, LWF, .*RCIL"),
        ("--step 6", "--step 6: voc 15-1 has steps 0 to 5; or say all"),
        ("--step 0 9", "--step 0 9: "),
        ("--step two", "--step two: "),
        ("--step -1", "steps 0 to 5|expected at least one argument"),
        ("--step ²", "--step ²: "),
        ("--step 2 1", "--step 2 1: name each step once, in ascending order"),
        ("--step 1 1", "--step 1 1: name each step once"),
        ("--task offline --step 1", "steps 0 to 0"),
        ("--method FT --loss_kd 10", "--loss_kd is an option of LWF, ILT, MiB, RCIL, .*, not of --method FT"),
        ("--method MiB --reg_alpha 1", "--reg_alpha is an option of EWC, RW, not of --method MiB"),
        ("--regularizer l2", "--regularizer l2: choose from ewc, rw, pi"),
        ("--method PLOP --pod_options {}", "--pod_options {}: JSON with the factor .*--pod_logits_factor"),
        ("--epochs many", "--epochs: invalid int value: 'many'"),
        ("--opt_level O3", "--opt_level.*choose from"),
        ("--backbone vgg", "--backbone vgg: choose from resnet18, resnet34, .*resnet152$"),
        ("--output_stride 32", "--output_stride 32: 8 or 16 where pixels"),
        ("--width", "--width: expected one argument"),
        ("--lr 0", "--lr .*above 0"),
        ("--ckpt a.pth", "--step N"),
        ("--ckpt a.pth --step 0 1", "--step N"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_line(line: str, words: str):
    with pytest.raises(UserError, match=words) as caught:
        read(line)
    assert "\n" not in str(caught.value)


def test_the_help_lists_data_sets_methods_and_bodies(capsys: pytest.CaptureFixture):
    *_, text = help_of("", capsys)
    for title, table, usual in (
        ("data set", DATASETS, "voc"),
        ("method", METHODS, "RCIL"),
        ("body", BACKBONES, "resnet101"),
    ):
        assert f"{title}: {', '.join(table)} [{usual}]" in text


def test_what_plops_scripts_type_is_read():
    options = '{"switch":{"after":{"extra_channels":"sum","factor":0.00001,"type":"local"}}}'
    line = f"--method PLOP --dataset ade --task 100-50 --pod_factor 0.002 --pod_options {options} --pod_prepro pow"
    parsed = read(line)
    assert (parsed.config.method.pod_factor, parsed.config.method.pod_logits_factor) == (0.002, 1e-5)
    assert [note.split()[0] for note in parsed.provenance.notes] == ["--pod_prepro", "--pod_options:"]
    # What is not typed comes from the preset of the data set.
    assert read("--method PLOP --dataset ade --task 100-50").config.method.pod_factor == 1e-3


@pytest.mark.parametrize("name", ["ewc", "rw", "pi"])
def test_a_regularizer_is_a_method(name: str):
    parsed = read(f"--method FT --regularizer {name} --reg_importance 500")
    assert parsed.config.method_name == name.upper() and parsed.config.method.reg_importance == 500
    assert parsed.provenance.notes == [f"--regularizer {name}: read as --method {name.upper()}"]


def test_the_preset_of_the_features_goes_with_their_kind():
    line = "--dataset ade --task 100-50 --method MiB"
    assert "spatial_factors" not in read(line).provenance.preset
    assert read(f"{line} --pod cube").config.method.spatial_factors == (5e-6, 5e-7)
    assert read(f"{line} --pod local").config.method.pod_factor == 1e-3


def test_the_versions_are_those_that_a_bug_report_needs(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ending:
        parse(["--method", "MiB", "--version"])
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert ending.value.code == 0 and said["torch"].split("+")[0] == torch.__version__.split("+")[0]
    root = Path(__file__).parents[1]
    [cited] = re.findall(r"^version: (.+)$", (root / "CITATION.cff").read_text(), re.MULTILINE)
    assert said["rcil"].split(",")[0] == cited
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    assert not head or re.fullmatch(r".+, commit \w+(-dirty)?", said["rcil"])
    assert not head or head.startswith(said["rcil"].split()[-1].removesuffix("-dirty"))
    changed = subprocess.run([*command[:3], "diff", "--quiet", "HEAD"]).returncode == 1
    assert not head or said["rcil"].endswith("-dirty") == changed
