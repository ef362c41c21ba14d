# Section 3.6 of the second edition, block by block, written anew: softmax regression from scratch.

# %% the libraries
from csoftmax import d2l
from csoftmax.d2l import display, torch

# %% the data; small batches, because the tests have a sample of the data
batch_size = 32
train_iter, test_iter = d2l.load_data_fashion_mnist(batch_size)

# %% what is learned
num_inputs, num_outputs = 28 * 28, 10
W = torch.normal(0, 0.01, size=(num_inputs, num_outputs), requires_grad=True)
b = torch.zeros(num_outputs, requires_grad=True)

# %% sums along an axis, which stays
X = d2l.tensor([[1.0, 4.0, 9.0], [2.0, 3.0, 5.0]])
sums = d2l.reduce_sum(X, 0, keepdim=True), d2l.reduce_sum(X, 1, keepdim=True)


# %% the softmax by its definition
def softmax(X):
    powers = d2l.exp(X)
    return powers / d2l.reduce_sum(powers, 1, keepdim=True)


# %% its rows are probabilities
X = d2l.normal(0, 1, (2, 5))
X_prob = softmax(X)
row_sums = d2l.reduce_sum(X_prob, 1)


# %% the model
def net(X):
    return softmax(d2l.matmul(d2l.reshape(X, (-1, W.shape[0])), W) + b)


# %% the probabilities of the true classes
y = d2l.tensor([0, 2])
y_hat = d2l.tensor([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]])
picked = y_hat[[0, 1], y]


# %% the loss
def cross_entropy(y_hat, y):
    return -d2l.log(y_hat[range(len(y_hat)), y])


losses = cross_entropy(y_hat, y)


# %% how many predictions are right
def accuracy(y_hat, y):
    if len(y_hat.shape) > 1 and y_hat.shape[1] > 1:
        y_hat = d2l.argmax(y_hat, axis=1)
    right = d2l.astype(y_hat, y.dtype) == y
    return float(d2l.reduce_sum(d2l.astype(right, y.dtype)))


# %% their share
share = accuracy(y_hat, y) / len(y)


# %% the same over a data set
def evaluate_accuracy(net, data_iter):
    if isinstance(net, torch.nn.Module):
        net.eval()
    counts = Accumulator(2)
    with torch.no_grad():
        for X, y in data_iter:
            counts.add(accuracy(net(X), y), d2l.size(y))
    return counts[0] / counts[1]


# %% running sums
class Accumulator:
    def __init__(self, n):
        self.data = [0.0 for _ in range(n)]

    def add(self, *args):
        for i, arg in enumerate(args):
            self.data[i] += float(arg)

    def reset(self):
        self.data = [0.0 for _ in self.data]

    def __getitem__(self, idx):
        return self.data[idx]


# %% about one in ten before training
untrained = evaluate_accuracy(net, test_iter)


# %% one epoch
def train_epoch_ch3(net, train_iter, loss, updater):
    if isinstance(net, torch.nn.Module):
        net.train()
    totals = Accumulator(3)
    for X, y in train_iter:
        y_hat = net(X)
        l = loss(y_hat, y)
        if isinstance(updater, torch.optim.Optimizer):
            updater.zero_grad()
            l.mean().backward()
            updater.step()
        else:
            l.sum().backward()
            updater(X.shape[0])
        totals.add(float(l.sum()), accuracy(y_hat, y), y.numel())
    return totals[0] / totals[2], totals[1] / totals[2]


# %% curves that grow
class Animator:
    def __init__(self, xlabel=None, ylabel=None, legend=None, xlim=None, ylim=None,
                 xscale="linear", yscale="linear", fmts=("-", "m--", "g-.", "r:"), nrows=1,
                 ncols=1, figsize=(3.5, 2.5)):  # fmt: skip
        d2l.use_svg_display()
        self.fig, axes = d2l.plt.subplots(nrows, ncols, figsize=figsize)
        self.axes = [axes] if nrows * ncols == 1 else axes
        options = xlabel, ylabel, xlim, ylim, xscale, yscale, legend or []
        self.config_axes = lambda: d2l.set_axes(self.axes[0], *options)
        self.X, self.Y, self.fmts = None, None, fmts

    def add(self, x, y):
        values = y if hasattr(y, "__len__") else [y]
        places = x if hasattr(x, "__len__") else [x] * len(values)
        if self.X is None:
            self.X, self.Y = ([[] for _ in values] for _ in range(2))
        for i, (place, value) in enumerate(zip(places, values)):
            if place is not None and value is not None:
                self.X[i].append(place)
                self.Y[i].append(value)
        self.axes[0].cla()
        for line in zip(self.X, self.Y, self.fmts):
            self.axes[0].plot(*line)
        self.config_axes()
        display.display(self.fig)
        display.clear_output(wait=True)


# %% all epochs
def train_ch3(net, train_iter, test_iter, loss, num_epochs, updater):
    animator = Animator(
        xlabel="epoch", xlim=[1, num_epochs], ylim=[0.3, 0.9],
        legend=["train loss", "train acc", "test acc"],
    )  # fmt: skip
    for epoch in range(num_epochs):
        train_loss, train_acc = train_epoch_ch3(net, train_iter, loss, updater)
        test_acc = evaluate_accuracy(net, test_iter)
        animator.add(epoch + 1, (train_loss, train_acc, test_acc))
    assert train_loss < 0.5, train_loss
    assert 0.7 < train_acc <= 1, train_acc
    assert 0.7 < test_acc <= 1, test_acc
    return animator


# %% the update
lr = 0.1


def updater(batch_size):
    return d2l.sgd([W, b], lr, batch_size)


# %% training
num_epochs = 10
animator = train_ch3(net, train_iter, test_iter, cross_entropy, num_epochs, updater)


# %% what it says of six images
def predict_ch3(net, test_iter, n=6):
    for X, y in test_iter:
        break
    trues = d2l.get_fashion_mnist_labels(y)
    preds = d2l.get_fashion_mnist_labels(d2l.argmax(net(X), axis=1))
    titles = ["\n".join(pair) for pair in zip(trues, preds)]
    d2l.show_images(d2l.reshape(X[0:n], (n, 28, 28)), 1, n, titles=titles[0:n])
    return titles[0:n]


titles = predict_ch3(net, test_iter)


# %% the update, as section 3.2 has it
def sgd(params, lr, batch_size):
    with torch.no_grad():
        for param in params:
            param -= lr * param.grad / batch_size
            param.grad.zero_()


again = train_epoch_ch3(net, train_iter, cross_entropy, lambda n: sgd([W, b], lr, n))
