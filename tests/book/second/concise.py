# Section 3.7 of the second edition, block by block, written anew: softmax regression, concisely.

# %% the libraries
from csoftmax import d2l
from csoftmax.d2l import nn, torch

# %% the data; small batches, because the tests have a sample of the data
batch_size = 32
train_iter, test_iter = d2l.load_data_fashion_mnist(batch_size)

# %% the model: its results are logits
net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def init_weights(m):
    if type(m) == nn.Linear:  # noqa: E721
        nn.init.normal_(m.weight, std=0.01)


net.apply(init_weights)

# %% the loss, of logits
loss = nn.CrossEntropyLoss(reduction="none")

# %% the optimizer
trainer = torch.optim.SGD(net.parameters(), lr=0.1)

# %% training
num_epochs = 10
d2l.train_ch3(net, train_iter, test_iter, loss, num_epochs, trainer)
concise_accuracy = d2l.evaluate_accuracy(net, test_iter)
