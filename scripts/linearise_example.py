"""How close linear triangle attention comes to softmax, in under a minute on a CPU.

    python scripts/linearise_example.py
    python scripts/linearise_example.py --c-z 128 --tokens 64 --steps 1000

A softmax layer with random weights is the teacher; inputs are random pair representations with a
part of low rank, like those of outer sums. For each linear form the table has the objective of
seedfold/weights/linearise.py on inputs that were not fitted: the softmax layer's weights copied,
the output projection fitted in closed form, and all weights fitted by gradient descent.
"""

import argparse

import torch
from torch import Tensor

from seedfold.model.triangle import TriangleAttention
from seedfold.weights import linearise


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="From softmax to linear triangle attention")
    parser.add_argument("--c-z", type=int, default=64)
    parser.add_argument("--c-head", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    teacher = TriangleAttention(TriangleAttention.Config(c_head=arguments.c_head), arguments.c_z)
    for parameter in teacher.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=1.2 * parameter.shape[1] ** -0.5)
    print("| form | copied | output fitted | distilled |")
    print("|---|--:|--:|--:|")
    for kind, cls in linearise.CLASSES.items():
        student = cls(cls.Config(c_head=arguments.c_head), arguments.c_z)
        errors = fit(teacher, student, arguments)
        cells = " | ".join(f"{error:.3f}" for error in errors)
        print(f"| {kind} | {cells} |", flush=True)


def fit(
    teacher: TriangleAttention, student: linearise.LinearAttention, arguments: argparse.Namespace
) -> list[float]:
    """Fits a student; returns its errors on unseen inputs at each stage."""

    def draw(seed: int, size: int) -> tuple[Tensor, Tensor]:
        return batch(seed, size, arguments.tokens, arguments.c_z)

    z, mask = draw(0, 4)

    def error() -> float:
        with torch.no_grad():
            return linearise.relative_error(student(z, mask), teacher(z, mask), mask).item()

    linearise.initialise(student, teacher)
    errors = [error()]
    linearise.fit_output(student, teacher, *draw(1, 8))
    errors.append(error())
    batches = (draw(seed, 4) for seed in range(2, 2 + arguments.steps))
    linearise.distil(student, teacher, batches, arguments.learning_rate)
    return [*errors, error()]


def batch(seed: int, size: int, n: int, c_z: int) -> tuple[Tensor, Tensor]:
    """Pair representations with the last eighth of the tokens as padding."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(16, 16, c_z, generator=torch.Generator().manual_seed(9)) / 16
    s = torch.randn(size, n, 16, generator=generator)
    z = torch.einsum("bia,bjc,acd->bijd", s, s, mixing)
    z = z + 0.3 * torch.randn(size, n, n, c_z, generator=generator)
    real = torch.arange(n) < n - n // 8
    return z, (real[:, None] & real[None, :]).expand(size, n, n)


if __name__ == "__main__":
    main()
