"""How workers compute: products of matrices by the quickest library whose numbers are those of single precision."""

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from insitu import Seed
from insitu.processes import KEPT_MEMORY, choose_products, prepare_torch, products_are_exact

MULTIPLY = torch.Tensor.__matmul__
PRODUCTS = getattr(torch.backends.mkldnn, "matmul", None)
pytestmark = pytest.mark.skipif(PRODUCTS is None, reason="this PyTorch has no choice of products")


@pytest.fixture(autouse=True)
def restored():
    threads, precision = torch.get_num_threads(), PRODUCTS.fp32_precision
    PRODUCTS.fp32_precision = "ieee"
    yield
    torch.set_num_threads(threads)
    PRODUCTS.fp32_precision = precision


def in_half(one, other):
    """As a processor with units for matrices of bfloat16 multiplies."""
    return MULTIPLY(one.bfloat16(), other.bfloat16()).float()


def in_half_where_batched(one, other):
    return in_half(one, other) if one.ndim == 3 else MULTIPLY(one, other)


def in_half_where_large(one, other):
    return in_half(one, other) if one.shape[-2] > 100 else MULTIPLY(one, other)


@pytest.mark.parametrize("wrong", [in_half, in_half_where_batched, in_half_where_large])
def test_products_that_round_are_not_taken(wrong, monkeypatch):
    assert products_are_exact()
    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong)
    assert not choose_products()
    assert PRODUCTS.fp32_precision == "ieee"


def test_products_that_are_taken_round_as_single_precision_does():
    # Every term of a sum of n products rounds to half an epsilon, and so does every partial sum.
    chosen = choose_products()
    one, other = ((Seed(0) / name).normal(*shape) for name, shape in (("one", (70, 300)), ("other", (300, 90))))
    error = (one.float() @ other.float()).double() - one.float().double() @ other.float().double()
    assert (error.abs() <= 300 * torch.finfo(torch.float32).eps * (one.abs() @ other.abs())).all()
    assert PRODUCTS.fp32_precision == ("bf16" if chosen else "ieee")


def test_a_pytorch_without_the_choice_multiplies_as_before(monkeypatch):
    monkeypatch.setattr(torch.backends, "mkldnn", SimpleNamespace(is_available=lambda: True))
    assert not choose_products()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library gives memory back by itself or never")
def test_freed_memory_goes_back_to_the_system():
    """In a process that keeps what it frees, as workers do."""
    code = """if True:
        import psutil, torch
        from insitu.processes import return_memory
        size = lambda: psutil.Process().memory_info().rss / 1e6
        numbers = [torch.ones(2_500_000) for _ in range(30)]
        whole = size()
        del numbers
        kept = size()
        return_memory()
        print(whole - kept, kept - size())
    """
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | KEPT_MEMORY, capture_output=True, check=True)
    kept, returned = map(float, done.stdout.split())
    assert abs(kept) < 50
    assert returned > 250


def test_a_process_computes_with_as_many_threads_as_it_is_given():
    prepare_torch(2)
    assert torch.get_num_threads() == 2
