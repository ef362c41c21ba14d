# Section 3.6's functions in the tensor library's own names, as the book's pages print them.

# %% the libraries
from csoftmax.d2l import torch

# %% what is learned
W = torch.normal(0, 0.01, size=(784, 10), requires_grad=True)
b = torch.zeros(10, requires_grad=True)


# %% the softmax
def softmax(X):
    powers = torch.exp(X)
    return powers / powers.sum(1, keepdim=True)


# %% the model
def net(X):
    return softmax(torch.matmul(X.reshape((-1, W.shape[0])), W) + b)


# %% the loss
def cross_entropy(y_hat, y):
    return -torch.log(y_hat[range(len(y_hat)), y])


# %% how many predictions are right
def accuracy(y_hat, y):
    if len(y_hat.shape) > 1 and y_hat.shape[1] > 1:
        y_hat = y_hat.argmax(axis=1)
    right = y_hat.type(y.dtype) == y
    return float(right.type(y.dtype).sum())


# %% the same over a data set
def evaluate_accuracy(net, data_iter):
    right = total = 0
    with torch.no_grad():
        for X, y in data_iter:
            right += accuracy(net(X), y)
            total += y.numel()
    return right / total


# %% the update
def updater(batch_size):
    with torch.no_grad():
        for param in (W, b):
            param -= 0.1 * param.grad / batch_size
            param.grad.zero_()
