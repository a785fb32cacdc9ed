"""Networks that the benchmarks measure, as sources (``torch:networks:resnet50``); weights are drawn.

Needs PyTorch, torchvision and transformers. ``resnet18`` is trained by ``export_networks.py``.
"""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
import torchvision  # pyright: ignore[reportMissingImports]
import transformers  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from tritonforge_generator.source import TorchModel

SEED = 0
TOKENS = 128
TRAINED: dict[str, TorchModel] = {}
"""Networks that were trained in this process."""


def resnet18() -> TorchModel:
    """ResNet-18 for images of 32 by 32, as used on CIFAR: a 3 by 3 stem and no first pooling; ten classes."""
    torch.manual_seed(SEED)
    network = torchvision.models.resnet18(weights=None, num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return TorchModel(module=network, inputs={"images": torch.rand(2, 3, 32, 32)}, outputs=("logits",))


def trained_resnet18() -> TorchModel:
    """ResNet-18 as it was trained in this process."""
    return TRAINED["resnet18"]


def resnet50() -> TorchModel:
    """ResNet-50 for images of 224 by 224, with statistics of its batch normalisation from random images."""
    torch.manual_seed(SEED)
    network = torchvision.models.resnet50(weights=None)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain mean
        norm.reset_running_stats()
    for module in network.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            nn.init.constant_(module.bn3.weight, 0.2)  # drawn residuals of full size would amplify every rounding
    network.train()
    with torch.no_grad():
        network(torch.randn(16, 3, 224, 224))
    return TorchModel(module=network.eval(), inputs={"images": torch.randn(2, 3, 224, 224)}, outputs=("logits",))


class _Bert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = transformers.BertConfig(attn_implementation="eager")
        self.bert = transformers.BertModel(config)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        # Everything stated in plain arithmetic: what transformers computes itself needs more than TensorRT 8.6 has.
        added = (1.0 - attention_mask[:, None, None, :].to(self.bert.dtype)) * -1e4
        positions = torch.arange(TOKENS, device=input_ids.device)[None]
        tokens = {"input_ids": input_ids, "token_type_ids": input_ids * 0, "position_ids": positions}
        return self.bert(**tokens, attention_mask=added).last_hidden_state


def bert_base() -> TorchModel:
    """BERT-base: twelve layers of 768, sequences of 128 tokens."""
    torch.manual_seed(SEED)
    inputs = {
        "input_ids": torch.randint(0, 30_000, (2, TOKENS)),
        "attention_mask": torch.ones(2, TOKENS, dtype=torch.int64),
    }
    return TorchModel(module=_Bert().eval(), inputs=inputs, outputs=("hidden",))


class _Gpt2(nn.Module):
    """GPT-2's blocks in plain operations: the exporter of transformers' own masks needs more than TensorRT 8.6 has."""

    def __init__(self, layers: int = 12, width: int = 768, heads: int = 12, vocabulary: int = 50257) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(TOKENS, width) * 0.02)
        self.blocks = nn.ModuleList([_Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.tokens(input_ids) + self.positions
        for block in self.blocks:
            hidden = block(hidden)
        last: torch.Tensor = self.head(self.norm(hidden)[:, -1])
        return last


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.register_buffer("mask", torch.triu(torch.full((TOKENS, TOKENS), -1e4), diagonal=1))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        batch, length, width = hidden.shape
        parts = self.qkv(self.norm1(hidden)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) * (width // self.heads) ** -0.5 + self.mask
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, width)
        hidden = hidden + self.out(mixed)
        expanded = nn.functional.gelu(self.up(self.norm2(hidden)))
        result: torch.Tensor = hidden + self.down(expanded)
        return result


def gpt2() -> TorchModel:
    """A decoder of GPT-2's size: twelve layers of 768 over 128 tokens, logits of the last position."""
    torch.manual_seed(SEED)
    inputs = {"input_ids": torch.randint(0, 50_000, (2, TOKENS))}
    return TorchModel(module=_Gpt2().eval(), inputs=inputs, outputs=("logits",))
