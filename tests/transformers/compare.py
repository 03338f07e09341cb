"""Holds msg against PyTorch and transformers, which made and will read the folders that msg imports and exports.

Tiny random GPT-2s and BERTs go through `msg import`, `export` and `grow`; logits, losses over training steps, keys
and bytes are compared. Every comparison fails on NaN. Needs torch and transformers; without them it is skipped.

    python compare.py --msg target/release/msg --peer target/release/msg-peer
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import tokenizers
    import torch
    import transformers
    from safetensors import safe_open
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(0)

from transformers import (
    AutoTokenizer, BertConfig, BertForMaskedLM, BertForPreTraining, BertModel, GPT2Config, GPT2LMHeadModel, GPT2Model,
)

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(2)

LOGITS = 1e-5  # share of the largest logit
LOSSES = 1e-4
STEPS = 20
TEXT = "The quick brown fox jumps over the lazy dog.\nIt's 12 o'clock; naive cafes aren't open.  Unquestionably so!"


class Run:
    """The commands under test and what was found."""

    def __init__(self, msg, peer, folder):
        self.msg_path, self.peer_path, self.folder = msg, peer, folder
        self.passed, self.failed, self.worst = 0, [], {}

    def path(self, name):
        return str(self.folder / name)

    def msg(self, *words, refused=None):
        done = subprocess.run([self.msg_path, *words], capture_output=True, text=True)
        if refused is not None:
            line = done.stderr.strip()
            self.check(f"refused: {refused}", done.returncode == 2 and refused in line and "\n" not in line, line)
        elif done.returncode != 0:
            self.check(" ".join(words), False, done.stderr.strip())
        return done.stdout

    def peer(self, checkpoint, batches, steps=0, lr=0.0, weight_decay=0.0):
        request = {"checkpoint": checkpoint, "batches": batches, "steps": steps, "lr": lr, "weight_decay": weight_decay}
        done = subprocess.run([self.peer_path], input=json.dumps(request), capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"msg-peer: {done.stderr}")
        return json.loads(done.stdout)

    def check(self, what, holds, seen=""):
        if holds:
            self.passed += 1
        else:
            self.failed.append(f"{what}: {seen}")
            print(f"FAILED  {what}: {seen}")

    def close(self, what, got, expected, tolerance):
        """max |got - expected| as a share of max |expected|."""
        got, expected = (torch.as_tensor(x, dtype=torch.float64).flatten() for x in (got, expected))
        if got.shape != expected.shape:
            return self.check(what, False, f"{got.shape} {expected.shape}")
        error = ((got - expected).abs().max() / expected.abs().max()).item()
        kind = what.split(":")[0]
        self.worst[kind] = max(self.worst.get(kind, 0.0), error)
        self.check(what, error <= tolerance, f"{error:.2e} is more than {tolerance:.0e}")


def wide(model, seed):
    """Numbers in every tensor that a swap or a forgotten tensor would show."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = "ln_" in name or "LayerNorm" in name
            p.copy_(torch.randn_like(p) * (0.2 if p.dim() > 1 else 0.1) + (1.0 if norm and name.endswith("weight") else 0.0))
    return model.eval()


GPT = dict(vocab_size=320, n_positions=24, n_embd=12, n_layer=2, n_head=3, n_inner=20, bos_token_id=0, eos_token_id=0,
           resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
BERT = dict(vocab_size=320, max_position_embeddings=24, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
            intermediate_size=20, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def gpt_batches(count):
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(count):
        ids = torch.randint(0, GPT["vocab_size"], (3, 17), generator=generator)
        batches.append(dict(ids=ids[:, :-1].flatten().tolist(), labels=ids[:, 1:].flatten().tolist(), shape=[3, 16]))
    return batches


def bert_batches(count):
    generator = torch.Generator().manual_seed(2)
    batches = []
    for _ in range(count):
        ids = torch.randint(0, BERT["vocab_size"], (3, 16), generator=generator)
        labels = torch.where(torch.rand(3, 16, generator=generator) < 0.3, ids, torch.full_like(ids, -100))
        labels[:, 0] = ids[:, 0]
        segments = (torch.arange(16) >= 8).long().expand(3, 16)
        seen = torch.ones(3, 16, dtype=torch.bool)
        seen[1, 12:] = False
        labels[~seen] = -100
        batches.append(dict(ids=ids.flatten().tolist(), labels=labels.flatten().tolist(), shape=[3, 16],
                            segments=segments.flatten().tolist(), seen=seen.flatten().tolist(), next=[0, 1, 0]))
    return batches


def tensor(batch, key):
    return torch.tensor(batch[key]).view(*batch["shape"])


def outputs(model, batch):
    """All outputs of a model on a batch, in the order of msg's receipts."""
    if batch.get("segments") is None:
        return [model(tensor(batch, "ids")).logits]
    out = model(tensor(batch, "ids"), token_type_ids=tensor(batch, "segments"), attention_mask=tensor(batch, "seen").long())
    if isinstance(model, BertModel):
        return [out.last_hidden_state]
    if isinstance(model, BertForMaskedLM):
        return [out.logits]
    return [out.prediction_logits, out.seq_relationship_logits]


def flat(parts):
    return torch.cat([part.detach().float().flatten() for part in parts])


def loss(model, batch):
    parts = outputs(model, batch)
    labels = tensor(batch, "labels").flatten()
    total = torch.nn.functional.cross_entropy(parts[0].flatten(0, 1), labels, ignore_index=-100)
    if len(parts) > 1:
        total = total + torch.nn.functional.cross_entropy(parts[1], torch.tensor(batch["next"]))
    return total


def train(model, batches, lr, weight_decay):
    decays = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [dict(params=decays, weight_decay=weight_decay), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for step in range(STEPS):
        value = loss(model, batches[step % len(batches)])
        losses.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return losses


def loaded(run, what, cls, folder):
    """A folder in transformers, with no key missing or unexpected."""
    with contextlib.redirect_stdout(io.StringIO()):
        model, info = cls.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    seen = {key: sorted(info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info.get(key)}
    run.check(f"{what}: no key is missing or unexpected", not seen, seen)
    return model.eval()


def raw(folder):
    """Tensors of a folder by name: type, shape, bytes."""
    found = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                value = tensors.get_tensor(name)
                found[name] = (value.dtype, tuple(value.shape), value.contiguous().view(torch.uint8).numpy().tobytes())
    return found


def same_bytes(run, what, source, back):
    source, back = raw(source), raw(back)
    differing = [name for name in source.keys() | back.keys() if source.get(name) != back.get(name)]
    run.check(f"{what}: import and export give the same bytes", not differing and source, differing)


def tokenizer_files(run, family, folder):
    """The older kind of tokenizer files, learnt on the text."""
    with contextlib.redirect_stdout(io.StringIO()):
        if family == "gpt":
            made = tokenizers.ByteLevelBPETokenizer()
            made.train_from_iterator([TEXT] * 4, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
        else:
            made = tokenizers.BertWordPieceTokenizer()
            made.train_from_iterator([TEXT] * 4, vocab_size=120, show_progress=False)
        made.save_model(folder)
        names = {"vocab.json", "merges.txt", "vocab.txt"} & set(os.listdir(folder))
    cls = transformers.GPT2TokenizerFast if family == "gpt" else transformers.BertTokenizerFast
    files = {"vocab.json": "vocab", "merges.txt": "merges", "vocab.txt": "vocab"}
    ids = cls(**{files[name]: os.path.join(folder, name) for name in names})(TEXT)["input_ids"]
    return ids


def round_trips(run, family):
    """Folders as they lie on the hub: bare and whole names, one file and several, three types of numbers."""
    gpt = family == "gpt"
    heads = [GPT2LMHeadModel, GPT2Model] if gpt else [BertForPreTraining, BertForMaskedLM, BertModel]
    batches = gpt_batches(2) if gpt else bert_batches(2)
    for cls in heads:
        for dtype in ("float32", "float16", "bfloat16"):
            for shard in ("5GB", "8KB"):
                what = f"{cls.__name__} in {dtype}, files of {shard}"
                name = f"{cls.__name__}-{dtype}-{shard}"
                config = GPT2Config(**GPT, layer_norm_epsilon=1e-6, activation_function="gelu") if gpt else \
                    BertConfig(**BERT, layer_norm_eps=1e-7, hidden_act="gelu_new")
                model = wide(cls(config), 7).to(getattr(torch, dtype))
                model.save_pretrained(run.path(name), max_shard_size=shard)
                told = run.msg("import", run.path(name), "--out", run.path(f"{name}-in"))
                run.check(f"{what}: a folder without tokenizer says so", told.count("without a tokenizer") == 1, told)
                run.msg("export", run.path(f"{name}-in"), run.path(f"{name}-out"), "--max-shard-size", shard)
                same_bytes(run, what, run.path(name), run.path(f"{name}-out"))
                back = loaded(run, what, cls, run.path(f"{name}-out"))
                if cls in (GPT2Model, BertModel):
                    continue
                ours = run.peer(run.path(f"{name}-in"), batches)["outputs"]
                model = model.float()
                for batch, got in zip(batches, ours):
                    expected = flat(outputs(model, batch))
                    run.close(f"imported logits: {what}", got[: len(expected)], expected, LOGITS)
                    run.close(f"exported logits: {what}", flat(outputs(back, batch)), expected, LOGITS)


def exact_cases(gpt):
    both = ["ffn=33", "layers=3", "layers=5", "hidden=24,heads=6", "hidden=24", "hidden=24,heads=6,ffn=40,layers=4"]
    return both + (["hidden=20,heads=5", "hidden=15", "hidden=27,heads=3,ffn=21,layers=3"] if gpt else ["hidden=36,heads=9"])


def main_path(run, family):
    """One model through everything: import, training in both, export, growth."""
    gpt = family == "gpt"
    cls = GPT2LMHeadModel if gpt else BertForPreTraining
    # Epsilon that is small against variances: twice normalised is then once normalised.
    model = wide(cls(GPT2Config(**GPT)) if gpt else cls(BertConfig(**BERT)), 3)
    folder, checkpoint = run.path(family), run.path(f"{family}-in")
    model.save_pretrained(folder)
    ids = tokenizer_files(run, family, folder)
    run.msg("import", folder, "--out", checkpoint)
    run.msg("import", folder, "--out", checkpoint, refused="which is there")
    batches = gpt_batches(4) if gpt else bert_batches(4)
    expected = [flat(outputs(model, batch)) for batch in batches]

    ours = run.peer(checkpoint, batches, steps=STEPS, lr=3e-3, weight_decay=0.1)
    for got, wanted in zip(ours["outputs"], expected):
        run.close(f"imported logits: {family}", got, wanted, LOGITS)
    theirs = train(cls.from_pretrained(folder).train(), batches, lr=3e-3, weight_decay=0.1)
    worst = max(abs(a - b) for a, b in zip(theirs, ours["losses"]))
    run.worst[f"loss over {STEPS} steps, {family}"] = worst
    run.check(f"{family}: losses over {STEPS} steps", worst <= LOSSES and theirs[-1] < theirs[0], f"{worst:.2e} {theirs}")

    run.msg("export", checkpoint, run.path(f"{family}-out"))
    back = loaded(run, f"{family} exported", cls, run.path(f"{family}-out"))
    for batch, wanted in zip(batches, expected):
        run.close(f"exported logits: {family}", flat(outputs(back, batch)), wanted, LOGITS)
    again = AutoTokenizer.from_pretrained(run.path(f"{family}-out"))(TEXT)["input_ids"]
    run.check(f"{family}: the exported tokenizer spells as the first one", again == ids, (again, ids))

    for at, to in enumerate(exact_cases(gpt)):
        for layers in ("stack", "interpolate", "fresh") if "layers" in to else ("stack",):
            source = folder if at % 2 else checkpoint
            out = run.path(f"{family}-exact-{to}-{layers}")
            run.msg("grow", "--from", source, "--to", to, "--exact", "--new-layers", layers, "--out", out, "--ids", "5,7,9,11,13")
            grown = loaded(run, f"{family} grown exactly to {to}", cls, out)
            for batch, wanted in zip(batches, expected):
                run.close(f"exactly grown logits: {family} to {to}, {layers}", flat(outputs(grown, batch)), wanted, LOGITS)
            if "hidden" in to or "ffn" in to:
                moved = train(grown.train(), batches, lr=3e-3, weight_decay=0.0)
                run.check(f"{family}: what grew to {to} learns", moved[-1] < moved[0], moved)
    refusals = [("heads=4", "grow hidden with heads"), ("hidden=12", "an axis that grows"), ("hidden=13", "expected a")]
    for to, reason in refusals + ([] if gpt else [("hidden=18,heads=3", "whole multiple of 12")]):
        run.msg("grow", "--from", folder, "--to", to, "--exact", "--out", run.path("never"), refused=reason)

    # Behind masks, then folded: masks of Ffn and of heads at 0, spare units of heads.
    masked = run.path(f"{family}-masked")
    run.msg("grow", "--from", folder, "--to", "ffn=30,hidden=20,layers=3", "--out", masked, "--ids", "1,2,3")
    run.msg("export", masked, run.path("never"), refused="masks of the residual stream cannot be folded")
    for to in ["ffn=30"] + (["ffn=30,layers=3"] if gpt else []):
        masked, out = run.path(f"{family}-masked-{to}"), run.path(f"{family}-folded-{to}")
        run.msg("grow", "--from", checkpoint, "--to", to, "--out", masked, "--ids", "1,2,3")
        run.msg("export", masked, run.path("never"), refused="--fold makes weights of it")
        run.msg("export", masked, out, "--fold")
        folded = loaded(run, f"{family} folded from {to}", cls, out)
        for batch, wanted in zip(batches, expected):
            run.close(f"folded logits: {family} from {to}", flat(outputs(folded, batch)), wanted, LOGITS)


RUN = """
[run]
name = "{name}"
seed = 5
[data]
sources = ["{text}"]
held_out = 0.2
tokenizer = {{ kind = "bytes" }}
[model]
family = "{family}"
head_dim = 4
init_std = 0.2
[lr]
shape = "constant"
peak = 1e-2
[[stage]]
steps = 3
layers = 2
hidden = {hidden}
ffn = 20
heads = 3
sequence = 16
batch = 2
"""


def spare_heads(run, family):
    """Runs whose heads have fewer units than hidden: folded into more heads, or larger ones."""
    gpt = family == "gpt"
    cls = GPT2LMHeadModel if gpt else BertForPreTraining
    text = run.folder / "text"
    text.mkdir(exist_ok=True)
    for at in range(40):
        (text / f"{at}.txt").write_text(f"Text {at}. {TEXT}\n")
    batches = gpt_batches(2) if gpt else bert_batches(2)
    for batch in batches:
        batch["ids"] = [at % 250 for at in batch["ids"]]
        batch["labels"] = [at % 250 if at >= 0 else at for at in batch["labels"]]
    for hidden, heads in ((16, 4), (15, 3)):
        name = f"{family}-{hidden}"
        config = run.folder / f"{name}.toml"
        config.write_text(RUN.format(name=name, text=text, family=family, hidden=hidden))
        done = subprocess.run([run.msg_path, "train", str(config)], cwd=run.folder, capture_output=True, text=True)
        run.check(f"{name} trains", done.returncode == 0, done.stderr)
        checkpoint, out = run.path(f"runs/{name}"), run.path(f"{name}-out")
        run.msg("export", checkpoint, run.path("never"), refused="--fold makes weights of it")
        run.msg("export", checkpoint, out, "--fold")
        folded = loaded(run, f"{name} folded", cls, out)
        count = folded.config.n_head if gpt else folded.config.num_attention_heads
        run.check(f"{name} has {heads} heads", count == heads, count)
        (last,) = (run.folder / "runs" / name / "checkpoints").glob("step-*3")
        for batch, got in zip(batches, run.peer(str(last), batches)["outputs"]):
            run.close(f"folded logits: {name}", flat(outputs(folded, batch)), got, LOGITS)


def encoder(run):
    """A bare BertModel grows exactly, too: its hidden states stay (or are copied)."""
    model = wide(BertModel(BertConfig(**BERT)), 5)
    model.save_pretrained(run.path("encoder"))
    for to, copies in (("ffn=30", 1), ("layers=3", 1), ("hidden=24,heads=6", 2)):
        out = run.path(f"encoder-{to}")
        run.msg("grow", "--from", run.path("encoder"), "--to", to, "--exact", "--out", out)
        grown = loaded(run, f"BertModel grown to {to}", BertModel, out)
        for batch in bert_batches(2):
            (got,), (wanted,) = outputs(grown, batch), outputs(model, batch)
            run.close(f"exactly grown states: BertModel to {to}", got, torch.cat([wanted] * copies, -1), LOGITS)


def refusals(run):
    """What changes the function is refused by name."""
    for name, cls, config, reason in [
        ("relu", GPT2LMHeadModel, GPT2Config(**GPT, activation_function="relu"), "activation_function: expected gelu_new"),
        ("inverse", GPT2LMHeadModel, GPT2Config(**GPT, scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx"),
        ("cross", GPT2LMHeadModel, GPT2Config(**GPT, add_cross_attention=True), "add_cross_attention: expected false"),
        ("untied", GPT2LMHeadModel, GPT2Config(**GPT, tie_word_embeddings=False), "tie_word_embeddings: expected true"),
        ("decoder", BertForMaskedLM, BertConfig(**BERT, is_decoder=True), "is_decoder: expected false"),
    ]:
        cls(config).save_pretrained(run.path(name))
        run.msg("import", run.path(name), "--out", run.path("never"), refused=reason)
    BertForMaskedLM(BertConfig(**BERT)).save_pretrained(run.path("relative"))
    path = pathlib.Path(run.path("relative")) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"position_embedding_type": "relative_key"}))
    run.msg("import", run.path("relative"), "--out", run.path("never"), refused="position_embedding_type: expected absolute")
    run.check("nothing was made of what was refused", not os.path.exists(run.path("never")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--msg", default="target/release/msg")
    parser.add_argument("--peer", default="target/release/msg-peer")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(os.path.abspath(args.msg), os.path.abspath(args.peer), pathlib.Path(folder))
        parts = [(main_path, family) for family in ("gpt", "bert")] + [(round_trips, family) for family in ("gpt", "bert")]
        parts += [(spare_heads, family) for family in ("gpt", "bert")]
        for part, *words in parts + [(encoder,), (refusals,)]:
            before = run.passed, len(run.failed)
            part(run, *words)
            passed, failed = run.passed - before[0], len(run.failed) - before[1]
            print(f"{' '.join([part.__name__, *words])}: {part.__doc__.strip()} {passed} passed, {failed} failed", flush=True)
    for kind, worst in run.worst.items():
        print(f"{kind}: largest difference {worst:.2e}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}: {run.passed} passed, {len(run.failed)} failed")
    sys.exit(1 if run.failed else 0)


if __name__ == "__main__":
    main()
