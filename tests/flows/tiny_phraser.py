"""A tiny causal model that has learnt one conversation by heart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from tests.tiny_transformers import END_OF_TEXT, write_llama


def write_phraser(folder: Path, prompt: str, answer: str, *, steps: int = 120) -> Path:
    """Write a causal model that answers the prompt (which ends as the server's prompts do) with the answer."""
    write_llama(folder, [prompt, answer], architecture=LlamaForCausalLM, positions=2_048)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = LlamaForCausalLM.from_pretrained(folder)
    asked = tokenizer(prompt, return_tensors="pt")["input_ids"]
    told = tokenizer(answer + END_OF_TEXT, return_tensors="pt")["input_ids"]
    # Only the answer is learnt.
    labels = torch.cat([torch.full_like(asked, -100), told], dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=torch.cat([asked, told], dim=1), labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder
