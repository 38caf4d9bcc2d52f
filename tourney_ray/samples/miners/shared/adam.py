"""AdamW in the few lines it takes: torch's own pulls in a compiler, which takes longer to load than a training here."""

import torch


class AdamW:
    """Adam with decoupled weight decay over a list of tensors; `rate` is set before every step."""

    def __init__(self, weights, weight_decay: float, first: float = 0.9, second: float = 0.98, epsilon: float = 1e-8):
        self.weights, self.weight_decay = weights, weight_decay
        self.first, self.second, self.epsilon = first, second, epsilon
        self.means = [torch.zeros_like(weight) for weight in weights]
        self.squares = [torch.zeros_like(weight) for weight in weights]
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float, clip: float) -> None:
        """One update from the gradients, whose common norm is cut to `clip`; then the gradients are dropped."""
        self.steps += 1
        gradients = [weight.grad for weight in self.weights]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, float(min(1.0, clip / (norm + 1e-6))))
        torch._foreach_lerp_(self.means, gradients, 1 - self.first)
        torch._foreach_mul_(self.squares, self.second)
        torch._foreach_addcmul_(self.squares, gradients, gradients, 1 - self.second)
        scale = torch._foreach_div(self.squares, 1 - self.second**self.steps)
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, self.epsilon)
        torch._foreach_mul_(self.weights, 1 - rate * self.weight_decay)
        torch._foreach_addcdiv_(self.weights, self.means, scale, -rate / (1 - self.first**self.steps))
        for weight in self.weights:
            weight.grad = None
