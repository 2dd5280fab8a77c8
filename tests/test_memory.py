"""The memory of training, as torch's allocator counts it: whole logits are never made, and the
formula of `fits` knows what a step takes."""

import pytest
import torch

from agentlib import config
from agentlib.masks import Example
from agentlib.runner import fits
from agentlib.training import cross_entropy, loop


def peak_bytes(work) -> int:
    """The most that torch held at once on the CPU while `work` ran, above what it held before."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in profiled.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    held = most = 0
    for _, change in sorted(changes, key=lambda at: at[0]):
        held += change
        most = max(most, held)
    return most


def test_the_peak_is_counted():
    def work():
        first = torch.ones(1_000_000)
        second = first + 1
        del first
        return second * 2

    assert 8e6 <= peak_bytes(work) < 9e6


def student(tuning: str = "lora", **shape):
    """A small random Llama as a GPU would train it: linear maps in 16 bits under LoRA, gradient
    checkpointing."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=4, **shape))
    if tuning == "lora":
        model = model.to(torch.bfloat16)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    if tuning == "lora":
        settings = LoraConfig(r=8, lora_dropout=0.05, target_modules="all-linear")
        model = get_peft_model(model, settings)
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = False
    return model.train()


def one_step(model, tokens: int, learnt: float):
    """The gradients of one example of so many tokens, of which a share carries loss."""
    vocabulary = model.config.vocab_size
    ids = torch.randint(0, vocabulary, (tokens,)).tolist()
    context = tokens - int(learnt * tokens)
    example = Example("one", ids, [-100] * context + ids[context:])
    return loop._accumulate(loop._loss_module(model), [example], "cpu", "bf16", loop.Distributed())


# --- the loss in parts ----------------------------------------------------------------------------


@pytest.mark.parametrize("trained_head", [False, True], ids=["frozen head", "trained head"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "autocast", "mixed"])
def test_parts_give_the_loss_and_the_gradients_of_whole_logits(
    precision, trained_head, monkeypatch
):
    """In 32 bits, in 16, and under autocast with a head in 32 bits, or with a head in 16 bits and
    states in 32."""
    torch.manual_seed(0)
    tokens, width, vocabulary = 50, 64, 1000
    head = torch.nn.Linear(width, vocabulary, bias=False).requires_grad_(trained_head)
    states, targets = torch.randn(tokens, width), torch.randint(0, vocabulary, (tokens,))
    if precision in ("bf16", "mixed"):
        head = head.bfloat16()
    if precision == "bf16":
        states = states.bfloat16()
    monkeypatch.setattr(cross_entropy, "PART_BYTES", 4 * vocabulary * 7)
    found = []
    for whole in (True, False):
        own = states.clone().requires_grad_()
        head.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=precision in ("autocast", "mixed")):
            if whole:
                logits = head(own).float()
                loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            else:
                assert cross_entropy.needs_parts(own, head)
                loss = cross_entropy.in_parts(own, head, targets)
        loss.backward()
        found.append((loss.detach(), own.grad, head.weight.grad))
    (loss, *grads), (other, *others) = found
    assert other.dtype == torch.float32
    assert float(other) == pytest.approx(float(loss), rel=1e-6)
    digits = 1e-5 if precision == "fp32" else 2**-8  # bf16 rounds each part's sum
    for one, two in zip(grads, others, strict=True):
        assert (one is None) == (two is None) == (one is not grads[0] and not trained_head)
        if one is not None:
            assert one.dtype == two.dtype
            assert (one - two).float().norm() <= digits * one.float().norm()


def test_a_state_far_from_its_target_has_a_finite_loss(monkeypatch):
    """Where a probability is 0 in 32 bits, its logarithm is not."""
    monkeypatch.setattr(cross_entropy, "PART_BYTES", 4)
    head = torch.nn.Linear(1, 3, bias=False)
    head.weight.data = torch.tensor([[0.0], [300.0], [-300.0]])
    states = torch.ones(2, 1, requires_grad=True)
    loss = cross_entropy.in_parts(states, head, torch.tensor([0, 2]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(900.0) and states.grad.isfinite().all()


def test_whole_logits_are_never_made(monkeypatch):
    """A step's peak stays far below its logits, which have 12 MB; with them it is above."""
    model = student(vocab_size=10_000, hidden_size=32, intermediate_size=64, num_hidden_layers=1)
    assert type(model.get_base_model().get_output_embeddings()) is torch.nn.Linear
    monkeypatch.setattr(cross_entropy, "PART_BYTES", 500_000)
    logits = 4 * 300 * 10_000
    assert peak_bytes(lambda: one_step(model, 301, 300 / 301)) < logits / 3
    monkeypatch.setattr(cross_entropy, "needs_parts", lambda states, head: False)
    assert peak_bytes(lambda: one_step(model, 301, 300 / 301)) > 2 * logits


def test_a_likelihood_makes_no_gradients(monkeypatch):
    monkeypatch.setattr(cross_entropy, "PART_BYTES", 4 * 5000 * 10)
    head = torch.nn.Linear(64, 5000, bias=False)
    states, targets = torch.randn(500, 64), torch.randint(0, 5000, (500,))
    whole = torch.nn.functional.cross_entropy(head(states), targets, reduction="sum").detach()
    with torch.inference_mode():
        found = float(cross_entropy.in_parts(states, head, targets))
        assert found == pytest.approx(float(whole), rel=1e-6)
        most = peak_bytes(lambda: cross_entropy.in_parts(states, head, targets))
    assert most < 4 * 500 * 5000 / 2  # half of the logits; torch also packs the head


# --- the formula of what a step takes -------------------------------------------------------------


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_step_takes_about_what_the_formula_says(tuning, monkeypatch):
    """Weights, optimiser and two steps of a small model, counted; the formula may be a little too
    careful, not too bold."""
    sizes = fits.Shape(4, 256, 704, 256, 256, 4000, tied=False)
    monkeypatch.setattr(fits, "shape", lambda name, source: sizes)
    monkeypatch.setattr(cross_entropy, "PART_BYTES", 1_000_000)
    tokens = 1024
    cfg = config.load(
        "paper", tuning=tuning, lora_rank=8, batch_size=1, max_length=tokens, cot_max_length=tokens
    )
    monkeypatch.setitem(loop.MICRO_TOKENS, "cuda", tokens)

    def work():
        model = student(
            tuning,
            vocab_size=sizes.vocabulary,
            hidden_size=sizes.width,
            intermediate_size=sizes.inner,
            num_hidden_layers=sizes.layers,
        )
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained)
        for _ in range(2):
            one_step(model, tokens, fits.LEARNT_SHARE)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    counted, estimated = peak_bytes(work), fits.training_bytes(cfg, "this one")
    assert counted <= estimated <= 1.4 * counted
