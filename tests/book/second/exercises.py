# Exercises 1 to 3 of section 3.6 in the second edition: what overflows, and the repair.

# %% the libraries
from csoftmax import d2l
from csoftmax.d2l import torch

# %% a batch whose logits are large
X = d2l.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
y = d2l.tensor([0, 1, 2])
W = torch.tensor([[100.0, 0.0, -100.0], [0.0, -200.0, 0.0], [50.0, 80.0, 20.0]], requires_grad=True)


# %% exercise 1: exp overflows
def softmax(X):
    powers = d2l.exp(X)
    return powers / d2l.reduce_sum(powers, 1, keepdim=True)


def cross_entropy(y_hat, y):
    return -d2l.log(y_hat[range(len(y_hat)), y])


overflowed = softmax(d2l.matmul(X, W))

# %% exercise 2: the logarithm of a probability that has become 0
impossible = cross_entropy(overflowed, y)
impossible.sum().backward()
gradient_of_impossible = W.grad


# %% exercise 3: the maximum is subtracted, and the logarithm is taken before it can be of 0
def stable_softmax(X):
    shifted = X - X.max(dim=1, keepdim=True).values
    powers = d2l.exp(shifted)
    return powers / d2l.reduce_sum(powers, 1, keepdim=True)


def stable_cross_entropy(logits, y):
    shifted = logits - logits.max(dim=1, keepdim=True)[0]
    log_of_sum = d2l.log(d2l.reduce_sum(d2l.exp(shifted), 1))
    return log_of_sum - shifted[range(len(shifted)), y]


probabilities = stable_softmax(d2l.matmul(X, W))
W.grad = None
repaired = stable_cross_entropy(d2l.matmul(X, W), y)
repaired.sum().backward()
gradient_of_repaired = W.grad

# %% the same by the function that the library has
W.grad = None
by_library = torch.logsumexp(d2l.matmul(X, W), dim=1) - d2l.matmul(X, W)[range(3), y]
by_library.sum().backward()
gradient_by_library = W.grad

# %% or smaller probabilities are cut off
W.grad = None
clipped = -torch.log(torch.clamp(stable_softmax(d2l.matmul(X, W)), min=1e-12)[range(3), y])
clipped.sum().backward()
gradient_of_clipped = W.grad
