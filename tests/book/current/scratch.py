# Section 4.4 of the current edition, block by block, written anew: from scratch.

# %% the libraries
from csoftmax import d2l1 as d2l
from csoftmax.d2l1 import torch

# %% sums along an axis, which stays
X = d2l.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
d2l.reduce_sum(X, 0, keepdims=True), d2l.reduce_sum(X, 1, keepdims=True)


# %% the softmax by its definition
def softmax(X):
    exponentials = d2l.exp(X)
    return exponentials / d2l.reduce_sum(exponentials, 1, keepdims=True)


# %% its rows are probabilities
X = d2l.rand((2, 5))
X_prob = softmax(X)
X_prob, d2l.reduce_sum(X_prob, 1)


# %% what is learned
class SoftmaxRegressionScratch(d2l.Classifier):
    def __init__(self, num_inputs, num_outputs, lr, sigma=0.01):
        super().__init__()
        self.save_hyperparameters()
        size = (num_inputs, num_outputs)
        self.W = torch.normal(0, sigma, size=size, requires_grad=True)
        self.b = torch.zeros(num_outputs, requires_grad=True)

    def parameters(self):
        return [self.W, self.b]


# %% the model
@d2l.add_to_class(SoftmaxRegressionScratch)
def forward(self, X):
    rows = d2l.reshape(X, (-1, self.W.shape[0]))
    return softmax(d2l.matmul(rows, self.W) + self.b)


# %% the probabilities of the true classes
y = d2l.tensor([0, 2])
y_hat = d2l.tensor([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]])
y_hat[[0, 1], y]


# %% the cross-entropy by its definition
def cross_entropy(y_hat, y):
    return -d2l.reduce_mean(d2l.log(y_hat[list(range(len(y_hat))), y]))


cross_entropy(y_hat, y)


# %% it is the model's loss
@d2l.add_to_class(SoftmaxRegressionScratch)
def loss(self, y_hat, y):
    return cross_entropy(y_hat, y)


# %% training
data = d2l.FashionMNIST(batch_size=256)
model = SoftmaxRegressionScratch(num_inputs=784, num_outputs=10, lr=0.1)
trainer = d2l.Trainer(max_epochs=10)
trainer.fit(model, data)

# %% what it says of a batch
X, y = next(iter(data.val_dataloader()))
preds = d2l.argmax(model(X), axis=1)
preds.shape

# %% where it is wrong
wrong = d2l.astype(preds, y.dtype) != y
X, y, preds = X[wrong], y[wrong], preds[wrong]
labels = [f"{a}\n{b}" for a, b in zip(data.text_labels(y), data.text_labels(preds))]
data.visualize([X, y], labels=labels)
