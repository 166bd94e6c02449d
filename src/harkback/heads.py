"""Heads that grow: a linear classifier, and one of cosine proxies."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

PROXIES = 10  #: proxies a class has (PODNet, arXiv 2004.13513, section 3.3, and AFC)


class Head(nn.Module):
    """A linear classifier with a row for each class known."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, width))
        self.bias = nn.Parameter(torch.empty(0))

    def grow(self, classes: int, generator: torch.Generator) -> None:
        """Rows for ``classes`` in all; the old rows stay as they are."""
        old, width = self.weight.shape
        fresh = 0.01 * torch.randn(classes - old, width, generator=generator)
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), fresh]))
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), torch.zeros(classes - old)]))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class ProxyHead(nn.Module):
    """Local similarity classifier: each class has several proxies, compared by cosine (PODNet eq. 8 and 9).

    y_c = sum_k s_ck cos(theta_ck, x), s_ck = softmax_k cos(theta_ck, x): a class may lie in several places. Proxies of
    former classes stay where they are: few exemplars against many new clips would push them out of the way.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.held = _fixed(torch.empty(0, PROXIES, width))  #: proxies of former classes
        self.weight = nn.Parameter(torch.empty(0, PROXIES, width))  #: those of the classes that came last
        self.scale = nn.Parameter(torch.ones(()))  #: eta of the loss, learnt: `distill.nca`

    def grow(self, classes: int, generator: torch.Generator) -> None:
        """Proxies for ``classes`` in all; the old ones are fixed from now on."""
        self.held = _fixed(self.proxies.detach())
        old, proxies, width = self.held.shape
        fresh = torch.randn(classes - old, proxies, width, generator=generator) * width**-0.5
        self.weight = nn.Parameter(fresh)

    @property
    def proxies(self) -> Tensor:
        """(classes, proxies, width)"""
        return torch.cat([self.held, self.weight])

    def forward(self, x: Tensor) -> Tensor:
        likeness = torch.einsum("nw,ckw->nck", normalize(x, dim=1), normalize(self.proxies, dim=2))
        return (likeness.softmax(2) * likeness).sum(2)


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)
